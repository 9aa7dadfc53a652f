"""From an image file's bytes to raw EXIF fields. What the fields mean is known in `bladescan.exif.tags`.

The bytes are not trusted. IFD0 and the Exif IFD are first reduced to the tags of `FIELDS` (`_pruned`), so
that time and memory are bounded by the file's size and one broken tag spoils no other; then piexif decodes
them, and Pillow decodes what piexif has not. XMP and the thumbnail's directory are not read.

References:
    CIPA DC-008 / JEITA CP-3451 (Exif 2.32), section 4.6; exiftool's tag tables for Canon.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence

import piexif
from PIL import Image

from bladescan.images.formats import IMAGE_FORMATS, register_heif

_EXIF_POINTER, _MAKER_NOTE = 0x8769, 0x927C
FIELDS = {
    0x010F: "make",
    0x0110: "model",
    0x0131: "software",
    0x829A: "exposuretime",
    0x829D: "fnumber",
    0x8822: "exposureprogram",
    0x8827: "iso",
    0x8831: "standardoutputsensitivity",
    0x8832: "recommendedexposureindex",
    0x8833: "isospeed",
    0x9201: "apexshutter",
    0x9202: "apexaperture",
    0x9207: "meteringmode",
    0x920A: "focallength",
    _MAKER_NOTE: "makernote",
    0xA402: "exposuremode",
    0xA403: "whitebalance",
}
"""The tags that are read, by number, with the names that `bladescan.exif.tags` uses."""

MAX_DECODED_PIXELS = 1 << 26
"""A PNG may carry its EXIF behind the pixels; larger ones are not decoded for it."""

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_ASCII, _UNDEFINED, _LONG = 2, 7, 4
_TIFF_VERSION = 42
_MAX_COUNT = 4096
_MAX_SEGMENTS = 4096
_MARKER = re.compile(rb"\xff+([^\xff])(..)", re.DOTALL)


def fields_in(data: bytes) -> dict[str, object]:
    """Read the fields of `FIELDS`, and Canon's own modes as ``canonmeteringmode`` and ``canonexposuremode``.

    Args:
        data: an image file's bytes, whole or cut short.

    Returns:
        Values as piexif or Pillow give them, texts as bytes; what is broken is left out.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _fields_of(_pruned(_exif_block(data)))
        except Exception:  # a decoder may raise anything on hostile bytes
            return {}


def _exif_block(data: bytes) -> bytes:
    """Find the TIFF structure that holds the EXIF; ``b""`` if there is none."""
    if data[:2] == b"\xff\xd8":
        return _jpeg_block(data)
    if data[:2] in (b"II", b"MM"):
        return data
    block = data if data[:4] == b"Exif" else _pillow_block(data)
    return re.sub(rb"\A(Exif\x00.){1,2}", b"", block, flags=re.DOTALL)


def _jpeg_block(data: bytes) -> bytes:
    at = 2
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.match(data, at)
        if found is None or found[1] in (b"\xda", b"\xd9"):
            return b""
        length = max(int.from_bytes(found[2], "big"), 2)
        if found[1] == b"\xe1" and data[found.end() : found.end() + 5] == b"Exif\x00":
            return data[found.end() + 6 : found.end() + length - 2]
        at = found.end() - 2 + length
    return b""


def _pillow_block(data: bytes) -> bytes:
    register_heif()
    formats = [name for name, facts in IMAGE_FORMATS.items() if facts.exif_by_pillow and name in _openers()]
    with Image.open(io.BytesIO(data), formats=formats) as image:
        block = image.info.get("exif") or b""
        if not block and image.format == "PNG" and image.width * image.height <= MAX_DECODED_PIXELS:
            exif = image.getexif()  # an eXIf chunk behind the pixels, or ImageMagick's profile
            block = image.info.get("exif") or exif.tobytes()
    return bytes(block)


def _openers() -> Mapping[str, object]:
    Image.init()
    return Image.OPEN


def _pruned(tiff: bytes) -> bytes:
    """Append new directories with only the entries that are read here and lie inside the block.

    Nothing moves, so offsets stay true; IFD1 and all other directories become unreachable.
    """
    order = _order(tiff)
    (first,) = struct.unpack_from(order + "L", tiff, 4)
    outer, exif = _entries(tiff, first)
    inner = _directory(_entries(tiff, exif)[0], order)
    outer.append(struct.pack(order + "HHLL", _EXIF_POINTER, _LONG, 1, len(tiff)))
    header = struct.pack(order + "2sHL", tiff[:2], _TIFF_VERSION, len(tiff) + len(inner))
    return header + tiff[8:] + inner + _directory(outer, order)


def _order(tiff: bytes) -> str:
    return "<" if tiff[:2] == b"II" else ">"


def _entries(tiff: bytes, offset: int) -> tuple[list[bytes], int]:
    """Choose the entries to keep of the directory at ``offset``; also return its Exif IFD's offset, or 0."""
    order = _order(tiff)
    if not 8 <= offset <= len(tiff) - 2:
        return [], 0
    (n_entries,) = struct.unpack_from(order + "H", tiff, offset)
    kept: dict[int, bytes] = {}
    exif = 0
    for at in range(offset + 2, min(offset + 2 + 12 * n_entries, len(tiff)) - 11, 12):
        tag, kind, count, value = struct.unpack_from(order + "HHLL", tiff, at)
        if tag == _EXIF_POINTER:
            exif = value
        elif tag in FIELDS and tag not in kept and _fits(tag, kind, count, value, len(tiff)):
            # Text as raw bytes: decoders cut its last letter where it lacks its NUL.
            kind = _UNDEFINED if kind == _ASCII else kind
            kept[tag] = struct.pack(order + "HH", tag, kind) + tiff[at + 4 : at + 12]
    return list(kept.values()), exif


def _directory(entries: Sequence[bytes], order: str) -> bytes:
    return struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


def _fits(tag: int, kind: int, count: int, value: int, size: int) -> bool:
    """Tell whether an entry is of a known type, not absurdly long, and inside the block."""
    n_bytes = count * _TYPE_SIZES.get(kind, 0)
    if not n_bytes or (count > _MAX_COUNT and tag != _MAKER_NOTE):
        return False
    return n_bytes <= 4 or value + n_bytes <= size


def _fields_of(tiff: bytes) -> dict[str, object]:
    found: dict[str, object] = {}
    for read in (_piexif_tags, _pillow_tags):
        try:
            tags = read(tiff)
        except Exception:  # as above; the other reader may still make sense of it
            continue
        found = {FIELDS[tag]: value for tag, value in tags.items() if tag in FIELDS} | found
    note = found.pop("makernote", None)
    make = found.get("make")
    if isinstance(note, bytes) and isinstance(make, bytes) and make.lower().startswith(b"canon"):
        found |= _canon_fields(note, tiff)
    return found


def _piexif_tags(tiff: bytes) -> dict[int, object]:
    directories = piexif.load(b"Exif\x00\x00" + tiff)
    return {**directories["0th"], **directories["Exif"]}


def _pillow_tags(tiff: bytes) -> dict[int, object]:
    exif = Image.Exif()
    exif.load(b"Exif\x00\x00" + tiff)
    return {**dict(exif), **exif.get_ifd(_EXIF_POINTER)}


_CANON_SETTINGS, _SHORT = 1, 3
_CANON_METERING, _CANON_EXPOSURE = 17, 20  # places in the array of camera settings
_MAX_CANON_ENTRIES = 256


def _canon_fields(note: bytes, tiff: bytes) -> dict[str, object]:
    """Read metering and exposure mode from Canon's maker note; its entry 1 holds the settings.

    The settings begin with their own length in bytes, which proves that they were found: editors move the
    note without correcting its offsets (from the TIFF header), and change the byte order around it.
    """
    for order in "<>":
        for n_bytes, offset in _canon_settings(note, order):
            for start in (offset - tiff.find(note), offset - _noted_offset(note, order)):
                settings = note[max(start, 0) : max(start, 0) + n_bytes]
                values = struct.unpack(f"{order}{len(settings) // 2}H", settings)
                if values[:1] == (n_bytes,) and len(settings) == n_bytes:
                    modes = (values[_CANON_METERING], values[_CANON_EXPOSURE])
                    return dict(zip(("canonmeteringmode", "canonexposuremode"), modes, strict=True))
    return {}


def _canon_settings(note: bytes, order: str) -> Iterator[tuple[int, int]]:
    """Yield length in bytes and offset of what may be the array of settings."""
    (n_entries,) = struct.unpack_from(order + "H", note) if len(note) > 1 else (0,)
    for at in range(2, min(2 + 12 * min(n_entries, _MAX_CANON_ENTRIES), len(note)) - 11, 12):
        tag, kind, count, offset = struct.unpack_from(order + "HHLL", note, at)
        if tag == _CANON_SETTINGS and kind == _SHORT and _CANON_EXPOSURE < count < _MAX_COUNT:
            yield 2 * count, offset


def _noted_offset(note: bytes, order: str) -> int:
    """Return the note's offset when the camera wrote it: its last four bytes, after a TIFF header."""
    if note[-8:-4] not in (b"II*\x00", b"MM\x00*"):
        return 0
    (offset,) = struct.unpack(order + "L", note[-4:])
    return int(offset)
