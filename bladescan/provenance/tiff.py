"""The metadata of a TIFF's first page. Its directory is its EXIF as well.

References:
    TIFF 6.0; XMP specification part 3, section 3.4; C2PA specification 2.1, appendix A.3.6 (tag 52545).
"""

from __future__ import annotations

from typing import Literal

from bladescan.provenance.blocks import Blocks
from bladescan.provenance.budget import Budget
from bladescan.provenance.directories import first_directory, read_directory

_WIDTH, _HEIGHT, _XMP, _IIM, _PHOTOSHOP, _STORE = 256, 257, 700, 33723, 34377, 52545
_WANTED = {tag: "" for tag in (_WIDTH, _HEIGHT, _XMP, _IIM, _PHOTOSHOP)}


def walk_tiff_page(data: bytes, found: Blocks, budget: Budget) -> None:
    """Add the blocks of a TIFF to ``found``.

    Raises:
        BrokenMetadata: the first directory cannot be read.
    """
    at = first_directory(data)
    found.exif = data
    found.has_store = _STORE in _tags(data, at, budget)
    page = read_directory(data, at, _WANTED, budget)
    found.size = page.number(_WIDTH), page.number(_HEIGHT)
    found.xmp += [page.raw(_XMP)] if page.raw(_XMP) else []
    found.iim += [page.raw(_IIM)] if page.raw(_IIM) else []
    found.photoshop += [page.raw(_PHOTOSHOP)] if page.raw(_PHOTOSHOP) else []


def _tags(data: bytes, at: int, budget: Budget) -> set[int]:
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    n_entries = int.from_bytes(data[at : at + 2], order)
    ends = range(at + 2, min(at + 2 + 12 * n_entries, len(data) - 1), 12)
    return {int.from_bytes(data[entry : entry + 2], order) for entry in ends}
