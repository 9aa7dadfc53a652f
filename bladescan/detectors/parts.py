"""Detector files that lie beside a file that joins them: a cascade's, or those that are combined."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from bladescan.base.errors import DetectorError


class DetectorPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A detector file beside the one that names it.

    Attributes:
        file: its name, without a folder.
        sha256: of its bytes, in hexadecimal.
    """

    file: str
    sha256: str


def part_of(path: Path) -> DetectorPart:
    """Name a detector file as a part.

    Raises:
        OSError: it cannot be read.
    """
    return DetectorPart(path.name, file_digest(path))


def find_part(path: Path, part: DetectorPart) -> Path:
    """Find a part beside a file, and see that it is the one that the file was made of.

    Raises:
        DetectorError: it is not there, or has another content.
    """
    try:
        found = file_digest(path.parent / part.file)
    except OSError as exc:
        raise DetectorError(
            f"{path.name}: its part {part.file} cannot be read: {exc.strerror}; it must lie beside it"
        ) from exc
    if found != part.sha256:
        raise DetectorError(
            f"{path.name}: its part {part.file} is another file than it was made of "
            f"(SHA-256 {found[:12]}, expected {part.sha256[:12]})"
        )
    return path.parent / part.file


def check_part(part: DetectorPart, *refused: str, where: str) -> None:
    """Raise DetectorError unless a part names a file beside its own, of a suffix that is not refused."""
    if part.file != Path(part.file).name or Path(part.file).suffix.lower() in refused:
        raise DetectorError(f"{where}: {part.file!r} is no name of a detector file beside it")


def file_digest(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
