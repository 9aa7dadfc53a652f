"""A ``.combined`` file: detectors beside it whose p-values are combined, and a manifest of all as one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bladescan.base.errors import DetectorError
from bladescan.detectors.combination import check_combination
from bladescan.detectors.files import read_whole
from bladescan.detectors.manifest import Manifest, decode_manifest, encode_manifest
from bladescan.detectors.parts import DetectorPart, check_part, find_part

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
    manifest = msgspec.Raw(encode_manifest(combined.manifest).encode())
    encoded = msgspec.json.encode({"manifest": manifest, "parts": combined.parts})
    return msgspec.json.format(encoded, indent=1) + b"\n"


def read_combined(path: Path) -> CombinedFile:
    """Read a file; its parts are not looked at.

    Raises:
        DetectorError: it is none, or what it says makes no sense.
    """
    data, where = read_whole(path, "a file of combined detectors"), path.name
    try:
        written = msgspec.json.decode(data, type=_WrittenCombined)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise DetectorError(f"{where}: not a bladescan combination: {exc}") from exc
    manifest = decode_manifest(bytes(written.manifest), where=where)
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
