"""What the EXIF has of a camera: how many of the nine tags, and whether they fit together.

Anybody can write EXIF. This is a description, no proof.

References:
    CIPA DC-008 / JEITA CP-3451 (Exif 2.32), section 4.6; exiftool's table of maker notes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from bladescan.base.provenance_record import CameraEvidence, CameraWord
from bladescan.exif.classes import EXPOSURE, METERING, PLACEHOLDERS, PROGRAM, WHITE_BALANCE
from bladescan.exif.values import as_number, as_words, letters
from bladescan.provenance.budget import Budget
from bladescan.provenance.directories import EXIF_POINTER, Directory, first_directory, read_directory

_MAKE, _MAKER_NOTE = 0x010F, 0x927C
_TIME, _F_NUMBER, _PROGRAM, _ISO = 0x829A, 0x829D, 0x8822, 0x8827
_APEX_TIME, _APEX_APERTURE, _METERING, _FOCAL = 0x9201, 0x9202, 0x9207, 0x920A
_EXPOSURE, _WHITE_BALANCE = 0xA402, 0xA403
_MORE_ISO = (0x8831, 0x8832, 0x8833)
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202
_TAGS = (_MAKE, _MAKER_NOTE, _TIME, _F_NUMBER, _PROGRAM, _ISO, _APEX_TIME, _APEX_APERTURE, _METERING)
_MORE_TAGS = (_FOCAL, _EXPOSURE, _WHITE_BALANCE, *_MORE_ISO, EXIF_POINTER, _THUMBNAIL, _THUMBNAIL_BYTES)
_WANTED = dict.fromkeys((*_TAGS, *_MORE_TAGS), "")
RICH = 7
"""Tags that, with a maker note, make the EXIF ``rich``."""

NOTE_STARTS = {
    "apple": (b"Apple iOS\0",),
    "fujifilm": (b"FUJIFILM",),
    "nikon": (b"Nikon\0",),
    "olympus": (b"OLYMP\0", b"OLYMPUS\0"),
    "panasonic": (b"Panasonic\0",),
    "sony": (b"SONY DSC ", b"SONY CAM ", b"SONY MOBILE"),
}
"""What maker notes begin with. A note that begins as another maker's is a contradiction."""

_DARKEST, _BRIGHTEST = -12.0, 21.0
"""Exposure values at ISO 100 of a photograph: below starlight, above the sun on snow."""
_DCF_THUMBNAIL = (160, 120)
"""The size that cameras put every picture into, with bars."""


def camera_in(exif: bytes, size: tuple[int, int], budget: Budget) -> CameraEvidence:
    """Describe the EXIF of a file.

    Args:
        exif: a TIFF structure, ``b""`` if there is none.
        size: width and height of the picture as stored, ``(0, 0)`` if unknown.
        budget: of the file.

    Raises:
        BrokenMetadata: the EXIF is broken.
    """
    if not exif:
        return CameraEvidence()
    outer = read_directory(exif, first_directory(exif), _WANTED, budget)
    pointer = outer.number(EXIF_POINTER)
    fields = Directory(outer)
    fields.update(read_directory(exif, pointer, _WANTED, budget) if pointer else {})
    n_tags, note = _count(fields), fields.raw(_MAKER_NOTE)
    contradictions = (*_against(fields), *_thumbnail_against(exif, outer.next_at, size, budget))
    if contradictions and n_tags:
        return CameraEvidence(n_tags, "inconsistent", bool(note), contradictions)
    word: CameraWord = "none" if not n_tags else "rich" if n_tags >= RICH and note else "sparse"
    return CameraEvidence(n_tags, word, bool(note))


def _count(fields: Directory) -> int:
    numbers = [
        any(_number(fields, tag) for tag in tags)
        for tags in ((_ISO, *_MORE_ISO), (_F_NUMBER, _APEX_APERTURE), (_TIME, _APEX_TIME), (_FOCAL,))
    ]
    tables = (
        (_METERING, METERING),
        (_EXPOSURE, EXPOSURE),
        (_WHITE_BALANCE, WHITE_BALANCE),
        (_PROGRAM, PROGRAM),
    )
    classes = [tag in fields and fields.number(tag) in table for tag, table in tables]
    make = letters(as_words(fields.raw(_MAKE))) not in PLACEHOLDERS
    return sum((*numbers, *classes, make))


def _number(fields: Directory, tag: int) -> float:
    value = fields.get(tag)
    number = None if isinstance(value, bytes) or not value else as_number(value[0], signed=True)
    return number or 0.0


def _against(fields: Directory) -> Iterator[str]:
    make, note = as_words(fields.raw(_MAKE)), fields.raw(_MAKER_NOTE)
    for maker, starts in NOTE_STARTS.items():
        if note.startswith(starts) and make and maker not in make:
            yield f"the maker note is {maker}'s, the maker is not"
    f_number, time_s, iso = (_number(fields, tag) for tag in (_F_NUMBER, _TIME, _ISO))
    if f_number > 0 and time_s > 0 and iso > 0:
        value = math.log2(f_number**2 / time_s) - math.log2(iso / 100)
        if not _DARKEST <= value <= _BRIGHTEST:
            yield "exposure and ISO fit no scene"


def _thumbnail_against(exif: bytes, at: int, size: tuple[int, int], budget: Budget) -> Iterator[str]:
    if not at or not all(size):
        return
    directory = read_directory(exif, at, _WANTED, budget)
    start, length = directory.number(_THUMBNAIL), directory.number(_THUMBNAIL_BYTES)
    small = _jpeg_size(exif[start : start + length])
    if all(small) and small != _DCF_THUMBNAIL:
        ratio = small[0] * size[1] / (small[1] * size[0])
        if not 0.95 <= ratio <= 1.05:
            yield "the thumbnail has another shape than the picture"


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Read width and height of a small JPEG; zeros if it is none."""
    at = 2
    while data[:2] == b"\xff\xd8" and data[at : at + 1] == b"\xff" and at + 9 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xC3:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + max(length, 2)
    return 0, 0
