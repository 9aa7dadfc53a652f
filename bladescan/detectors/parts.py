"""Detector files that lie beside a file that joins them: a cascade's, or those that are combined."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from bladescan.base.errors import DetectorError
from bladescan.detectors.files import read_whole
from bladescan.detectors.manifest import Manifest, decode_manifest, encode_manifest


class _Joining(Protocol):
    """A file with a manifest that is not read yet: a newer one is then told from a broken one."""

    manifest: msgspec.Raw


JoiningFile = TypeVar("JoiningFile", bound=_Joining)


class DetectorPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A detector file beside the one that names it.

    Attributes:
        file: its name, without a folder.
        sha256: of its bytes, in hexadecimal.
    """

    file: str
    sha256: str


def encode_joining(manifest: Manifest, **fields: Any) -> bytes:
    """Encode a file that joins detectors: the manifest of all as one, and what else it holds."""
    written = {"manifest": msgspec.Raw(encode_manifest(manifest).encode()), **fields}
    return msgspec.json.format(msgspec.json.encode(written), indent=1) + b"\n"


def read_joining(path: Path, kind: type[JoiningFile], what: str) -> tuple[JoiningFile, Manifest]:
    """Read a file that joins detectors; its parts are not looked at.

    Args:
        path: of the file.
        kind: what it holds, with a manifest that is not read yet.
        what: to call it in messages, such as ``cascade``.

    Raises:
        DetectorError: it is none.
    """
    data = read_whole(path, f"a {what} file")
    try:
        written = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise DetectorError(f"{path.name}: not a bladescan {what}: {exc}") from exc
    return written, decode_manifest(bytes(written.manifest), where=path.name)


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
