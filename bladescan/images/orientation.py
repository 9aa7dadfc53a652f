"""The orientation that EXIF states, found although other tags are broken. It turns nothing.

XMP may state another one: EXIF alone decides, as in browsers.

References:
    CIPA DC-008 (Exif 2.32), section 4.6.4.
"""

from __future__ import annotations

import re

from bladescan.images.tiff_directories import directories

ORIENTATION = 274
_HEADS = re.compile(rb"(?:Exif\0.){1,2}", re.DOTALL)
"""Stands before the TIFF structure in JPEG; some programs write it in other containers too, or twice."""


def exif_orientation(block: bytes) -> int:
    r"""Read the orientation from EXIF, 1 to 8; 1 if there is none.

    Args:
        block: as a container holds it, with or without ``Exif\0\0`` before it.
    """
    head = _HEADS.match(block)
    first = next(directories(block[head.end() if head else 0 :], frozenset({ORIENTATION})), None)
    return valid_orientation(0 if first is None else first.number(ORIENTATION))


def valid_orientation(value: int) -> int:
    """Return the orientation, or 1 for one that is not defined."""
    return value if 1 <= value <= 8 else 1
