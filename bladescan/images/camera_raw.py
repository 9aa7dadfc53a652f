"""Camera raw on TIFF, told by what its directories hold, never by its name. No pixel is decoded.

What a TIFF reader finds in such a file is a thumbnail: the picture is the mosaic of a sensor in a
directory below. A plain TIFF that a camera wrote is none.

References:
    Adobe, Digital Negative Specification 1.7; TIFF/EP (ISO 12234-2); exiftool's tag tables.
"""

from __future__ import annotations

from bladescan.images.tiff_directories import ImageDirectory, directories

_NEW_SUBFILE_TYPE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _MAKE, _SUB_IFDS = 254, 256, 257, 262, 271, 330
_CFA_PATTERN, _LEAF, _DNG_VERSION = 33422, 34310, 50706
_SENSOR = frozenset({32803, 34892})
"""Photometric interpretations: colour filter array, linear raw."""
_TAGS = frozenset(
    {_NEW_SUBFILE_TYPE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _MAKE, _CFA_PATTERN, _LEAF, _DNG_VERSION}
)
_NAMES = {
    "canon": "CR2",
    "eastman kodak": "DCR",
    "epson": "ERF",
    "hasselblad": "3FR",
    "kodak": "DCR",
    "leaf": "MOS",
    "mamiya": "MEF",
    "nikon": "NEF",
    "olympus": "ORF",
    "om digital": "ORF",
    "panasonic": "RW2",
    "pentax": "PEF",
    "phase one": "IIQ",
    "ricoh": "PEF",
    "samsung": "SRW",
    "seiko epson": "ERF",
    "sony": "ARW",
}


def camera_raw(data: bytes) -> str | None:
    """Name the kind of camera raw that a TIFF is; None for a picture that a TIFF reader can show.

    Args:
        data: a file that begins as a TIFF does.
    """
    if data[8:11] == b"CR\x02":
        return "camera raw (CR2)"
    if data[8:12] in (b"IIII", b"MMMM"):
        return "camera raw (IIQ)"
    found = list(directories(data, _TAGS))
    if not found:
        return None
    if _DNG_VERSION in found[0].fields:
        return "camera raw (DNG)"
    if any(_is_sensor(each) for each in found):
        return f"camera raw ({_name(found[0])})"
    if _is_preview(found):
        return "TIFF that holds a preview where its picture is looked for"
    return None


def _is_sensor(directory: ImageDirectory) -> bool:
    fields = directory.fields
    return directory.number(_PHOTOMETRIC) in _SENSOR or _CFA_PATTERN in fields or _LEAF in fields


def _is_preview(found: list[ImageDirectory]) -> bool:
    """Tell whether the first page says that it is smaller than another picture, which is no page."""
    first = found[0]
    if not first.number(_NEW_SUBFILE_TYPE) & 1 or _SUB_IFDS not in first.fields:
        return False
    return all(_area(page) <= _area(first) for page in found if page.depth == 0)


def _area(directory: ImageDirectory) -> int:
    return directory.number(_WIDTH) * directory.number(_HEIGHT)


def _name(first: ImageDirectory) -> str:
    make = bytes(first.fields.get(_MAKE, ())).decode("latin-1").strip("\0 ").lower()
    return next((name for start, name in _NAMES.items() if make.startswith(start)), "made by a camera")
