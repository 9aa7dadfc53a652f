"""The metadata items of an AVIF or HEIF, found through its boxes.

References:
    ISO/IEC 14496-12, sections 8.11.3, 8.11.6; ISO/IEC 23008-12, annex A; C2PA specification 2.1,
    appendix A.3.4.
"""

from __future__ import annotations

from collections.abc import Iterator

from bladescan.provenance.blocks import Blocks
from bladescan.provenance.budget import BrokenMetadata, Budget

_STORE_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_XMP_TYPE = b"application/rdf+xml"


def walk_iso_media(data: bytes, found: Blocks, budget: Budget) -> None:
    """Add the blocks of an AVIF or HEIF to ``found``.

    Raises:
        BrokenMetadata: boxes do not fit into each other; what came before is in ``found``.
    """
    boxes = _boxes(data, 0, len(data), budget)
    has_items = False
    while box := _next(boxes, has_items):
        kind, start, end = box
        if kind == b"uuid" and data[start : start + 16] == _STORE_UUID:
            purpose = data[start + 20 : start + 52].partition(b"\0")[0]  # after version and flags
            found.has_store = found.has_store or purpose in (b"manifest", b"original", b"update")
        elif kind == b"meta":
            has_items = True
            _add_items(data, start + 4, end, found, budget)


def _next(boxes: Iterator[tuple[bytes, int, int]], has_items: bool) -> tuple[bytes, int, int] | None:
    """Return the next box; what is behind the items and no box belongs to nobody."""
    try:
        return next(boxes, None)
    except BrokenMetadata:
        if not has_items:
            raise
        return None


def _boxes(data: bytes, at: int, end: int, budget: Budget) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of each box."""
    while at + 8 <= end:
        budget.count_block()
        size, header = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = end - at
        if size < header or at + size > end:
            raise BrokenMetadata(f"a box of {size} bytes does not fit, at byte {at}")
        yield data[at + 4 : at + 8], at + header, at + size
        at += size


def _add_items(data: bytes, start: int, end: int, found: Blocks, budget: Budget) -> None:
    inside = {kind: (first, last) for kind, first, last in _boxes(data, start, end, budget)}
    if b"iinf" not in inside or b"iloc" not in inside:
        return
    kinds = dict(_item_kinds(data, *inside[b"iinf"], budget))
    base = inside.get(b"idat", (0, 0))[0]
    for item, in_idat, extents in _locations(data[slice(*inside[b"iloc"])], budget):
        kind = kinds.get(item)
        if kind is None:
            continue
        if sum(length for _, length in extents) > budget.limits.max_block_bytes:
            raise BrokenMetadata("a metadata item is too large")
        shift = base if in_idat else 0
        block = budget.kept(b"".join(data[shift + at : shift + at + n] for at, n in extents))
        if len(block) != sum(length for _, length in extents):
            raise BrokenMetadata("a metadata item reaches past the end")
        if kind == b"Exif":
            found.add_exif(block[4 + int.from_bytes(block[:4], "big") :])
        else:
            found.xmp.append(block)


def _item_kinds(data: bytes, start: int, end: int, budget: Budget) -> Iterator[tuple[int, bytes]]:
    """Yield number and kind of the items that hold EXIF or XMP."""
    skip = 6 if data[start] == 0 else 8
    for kind, at, last in _boxes(data, start + skip, end, budget):
        version = data[at]
        if kind != b"infe" or version not in (2, 3):
            continue
        wide = 2 if version == 2 else 4
        item = int.from_bytes(data[at + 4 : at + 4 + wide], "big")
        item_type = data[at + 6 + wide : at + 10 + wide]
        names = data[at + 10 + wide : min(last, at + 600)].split(b"\0")
        if item_type == b"Exif":
            yield item, b"Exif"
        elif item_type == b"mime" and names[1:2] == [_XMP_TYPE]:
            yield item, _XMP_TYPE


def _locations(box: bytes, budget: Budget) -> Iterator[tuple[int, bool, list[tuple[int, int]]]]:
    """Yield number, whether it lies in the data box, and the extents of each item."""
    version = box[0]
    numbers = _Numbers(box, 4)
    sizes = numbers.take(2)
    offset_n, length_n, base_n, index_n = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15
    for _ in range(numbers.take(2 if version < 2 else 4)):
        budget.count_block()
        item = numbers.take(2 if version < 2 else 4)
        method = numbers.take(2) & 15 if version in (1, 2) else 0
        numbers.take(2)  # which file; 0 is this one
        base = numbers.take(base_n)
        extents = []
        for _ in range(numbers.take(2)):
            budget.count_block()
            numbers.take(index_n if version in (1, 2) else 0)
            extents.append((base + numbers.take(offset_n), numbers.take(length_n)))
        yield item, method == 1, extents


class _Numbers:
    """Big-endian numbers, one after the other."""

    def __init__(self, box: bytes, at: int) -> None:
        self._box, self._at = box, at

    def take(self, size: int) -> int:
        """Return the next number of ``size`` bytes; 0 for none."""
        self._at += size
        if self._at > len(self._box):
            raise BrokenMetadata("iloc ends early")
        return int.from_bytes(self._box[self._at - size : self._at], "big")
