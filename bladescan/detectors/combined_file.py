"""A ``.combined`` file: detectors beside it whose p-values are combined, and a manifest of all as one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bladescan.base.errors import DetectorError
from bladescan.detectors.combination import check_combination
from bladescan.detectors.manifest import Manifest
from bladescan.detectors.parts import DetectorPart, check_part, encode_joining, find_part, read_joining

SUFFIX = ".combined"


class CombinedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a file of combined detectors holds.

    Attributes:
        manifest: of the detectors as one, whose only head is ``combined``.
        parts: the detectors, in the order in which the manifest counts them.
    """

    manifest: Manifest
    parts: tuple[DetectorPart, ...]


class _WrittenCombined(msgspec.Struct, forbid_unknown_fields=True):
    """The file with a manifest that is not read yet: a newer one is then told from a broken one."""

    manifest: msgspec.Raw
    parts: tuple[DetectorPart, ...]


def encode_combined(combined: CombinedFile) -> bytes:
    """Encode as the file."""
    return encode_joining(combined.manifest, parts=combined.parts)


def read_combined(path: Path) -> CombinedFile:
    """Read a file; its parts are not looked at.

    Raises:
        DetectorError: it is none, or what it says makes no sense.
    """
    written, manifest = read_joining(path, _WrittenCombined, "combination")
    where = path.name
    for part in written.parts:
        check_part(part, SUFFIX, where=where)
    if len({part.file for part in written.parts}) < len(written.parts):
        raise DetectorError(f"{where}: names a detector twice")
    if set(manifest.heads) != {"combined"}:
        raise DetectorError(f"{where}: combined detectors have one head, 'combined'")
    check_combination(manifest, len(written.parts), where=where)
    return CombinedFile(manifest, written.parts)


def combined_parts(path: Path, combined: CombinedFile) -> list[Path]:
    """Find the detectors beside the file, and see that they are the ones that it was made of.

    Raises:
        DetectorError: one is not there, or has another content.
    """
    return [find_part(path, part) for part in combined.parts]
