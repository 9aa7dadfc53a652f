"""The boxes of an AVIF or HEIF that matter for its picture. Nothing is decoded.

References:
    ISO/IEC 14496-12, sections 4.2, 8.11 and 12.1.5; ISO/IEC 23008-12, sections 6.5 and 9.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MAX_BOXES = 4096
_LAST_CODE_POINT = 22


class Box(NamedTuple):
    """A box: its kind, and where its content begins and ends."""

    kind: bytes
    start: int
    end: int


def boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two places, up to the first that does not fit."""
    for _ in range(MAX_BOXES):
        size, kind, head = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        elif size == 0:
            size = end - start
        if size < head or start + size > end or len(kind) < 4:
            return
        yield Box(kind, start + head, start + size)
        start += size


def iso_media_ends_early(data: bytes) -> bool:
    """Tell whether the last box of a file reaches past its end; what is no box was appended."""
    end = _end(data)
    kind = data[end + 4 : end + 8]
    return 0 < len(data) - end and (len(kind) < 4 or (kind.isascii() and kind.isalnum()))


def without_appendix(data: bytes) -> bytes:
    """Leave out what is behind the last box and is none: decoders may take it for damage."""
    return data if iso_media_ends_early(data) else data[: _end(data)]


def _end(data: bytes) -> int:
    return max((box.end for box in boxes(data, 0, len(data))), default=0)


def without_exif(data: bytes) -> bytes:
    """Rename the EXIF items of a file, so that broken ones cannot keep it from being read."""
    changed = bytearray(data)
    for meta in _meta(data):
        for infos in _within(data, meta, b"iinf"):
            skip = 6 if data[infos.start : infos.start + 1] == b"\0" else 8
            for info in boxes(data, infos.start + skip, infos.end):
                at = info.start + (8 if data[info.start : info.start + 1] == b"\2" else 10)
                if data[at : at + 4] == b"Exif":
                    changed[at : at + 4] = b"free"
    return bytes(changed)


def code_points(data: bytes) -> tuple[int, int] | None:
    """Read the colour primaries and transfer characteristics of the primary picture, from its nclx box."""
    at = next(_code_points(data), None)
    return None if at is None else (_number(data, at), _number(data, at + 2))


def with_known_code_points(data: bytes) -> bytes:
    """Make unspecified what is no code point: libheif takes that for damage."""
    changed = data
    for at in _code_points(data):
        for place in (at, at + 2):
            if not 1 <= _number(data, place) <= _LAST_CODE_POINT:
                changed = changed[:place] + b"\0\2" + changed[place + 2 :]
    return changed


def _code_points(data: bytes) -> Iterator[int]:
    """Yield where the code points of the primary picture stand."""
    for meta in _meta(data):
        for properties in _within(data, meta, b"iprp"):
            holders = _within(data, properties, b"ipco")
            known = [box for each in holders for box in boxes(data, each.start, each.end)]
            chosen = _properties_of(data, _primary(data, meta), properties)
            for box in (known[i - 1] for i in chosen if 0 < i <= len(known)):
                if box.kind == b"colr" and data[box.start : box.start + 4] == b"nclx":
                    yield box.start + 4


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _meta(data: bytes) -> Iterator[Box]:
    for box in boxes(data, 0, len(data)):
        if box.kind == b"meta":
            yield Box(box.kind, box.start + 4, box.end)


def _within(data: bytes, outer: Box, kind: bytes) -> Iterator[Box]:
    return (box for box in boxes(data, outer.start, outer.end) if box.kind == kind)


def _primary(data: bytes, meta: Box) -> int:
    for box in _within(data, meta, b"pitm"):
        return int.from_bytes(data[box.start + 4 : box.end], "big")
    return -1


def _properties_of(data: bytes, item: int, properties: Box) -> list[int]:
    """Return the numbers of an item's properties, from 1."""
    for box in _within(data, properties, b"ipma"):
        wide_item, wide_index = data[box.start] > 0, data[box.start + 3] & 1
        at, n_item, n_index = box.start + 8, 4 if wide_item else 2, 2 if wide_index else 1
        for _ in range(min(int.from_bytes(data[box.start + 4 : box.start + 8], "big"), MAX_BOXES)):
            found, count = int.from_bytes(data[at : at + n_item], "big"), data[at + n_item : at + n_item + 1]
            at += n_item + 1
            if not count:
                return []
            places = range(at, at + count[0] * n_index, n_index)
            if found == item:
                mask = (1 << (8 * n_index - 1)) - 1  # the highest bit says whether it is essential
                return [int.from_bytes(data[i : i + n_index], "big") & mask for i in places]
            at += count[0] * n_index
    return []
