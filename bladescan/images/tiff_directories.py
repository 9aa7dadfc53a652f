"""The directories of a TIFF or of EXIF, which is one: whole numbers and texts by tag. No pixel is decoded.

The bytes are not trusted: what lies outside of them is left out, and no more than `MAX_DIRECTORIES` are read.

References:
    TIFF 6.0, section 2; the BigTIFF file format proposal.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

MAX_DIRECTORIES = 64
_MAX_ENTRIES = _MAX_VALUES = 1 << 16
_SUB_DIRECTORIES = 330
_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}
_HEADS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}


class ImageDirectory(NamedTuple):
    """One directory.

    Attributes:
        fields: whole numbers by tag; of a text its bytes.
        depth: 0 for a page, 1 for what is below a page.
        is_whole: whether it, and where the next one begins, lies inside the file.
    """

    fields: dict[int, tuple[int, ...]]
    depth: int
    is_whole: bool

    def number(self, tag: int, default: int = 0) -> int:
        """Return the first number of a field."""
        return next(iter(self.fields.get(tag, ())), default)


class _Widths(NamedTuple):
    order: str
    n_count: int
    n_entry: int
    n_place: int

    def place(self, data: bytes, at: int) -> int:
        """Read where something lies; 0 past the end."""
        return int.from_bytes(data[at : at + self.n_place], "little" if self.order == "<" else "big")


def directories(data: bytes, wanted: frozenset[int]) -> Iterator[ImageDirectory]:
    r"""Yield the pages of a TIFF, each followed by the directories below it.

    Args:
        data: a TIFF, a BigTIFF, or what EXIF holds after ``Exif\0\0``.
        wanted: the tags to read.
    """
    head = _HEADS.get(data[:4])
    if head is None:
        return
    order, wide = head
    form = _Widths(order, *((8, 20, 8) if wide else (2, 12, 4)))
    waiting, seen = [(form.place(data, 8 if wide else 4), 0)], set[int]()
    while waiting and len(seen) < MAX_DIRECTORIES:
        at, depth = waiting.pop()
        if not at or at in seen:
            continue
        seen.add(at)
        found, after = _read(data, at, form, wanted | {_SUB_DIRECTORIES}, depth)
        yield found
        waiting += [(after, depth)] if depth == 0 else []
        below = found.fields.get(_SUB_DIRECTORIES, ()) if depth < 2 else ()
        waiting += [(each, depth + 1) for each in reversed(below[:MAX_DIRECTORIES])]


def _read(
    data: bytes, at: int, form: _Widths, wanted: frozenset[int], depth: int
) -> tuple[ImageDirectory, int]:
    """Read one directory, and where the next one begins."""
    order = form.order
    n_entries = int.from_bytes(data[at : at + form.n_count], "little" if order == "<" else "big")
    first, end = at + form.n_count, at + form.n_count + form.n_entry * n_entries
    fields: dict[int, tuple[int, ...]] = {}
    last = min(end, len(data), first + form.n_entry * _MAX_ENTRIES)
    for entry in range(first, last - form.n_entry + 1, form.n_entry):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in wanted and tag not in fields and kind in _CODES:
            values = _values(data, entry + 4, kind, form)
            fields |= {tag: values} if values else {}
    is_whole = bool(n_entries) and end + form.n_place <= len(data)
    return ImageDirectory(fields, depth, is_whole), form.place(data, end) if is_whole else 0


def _values(data: bytes, at: int, kind: int, form: _Widths) -> tuple[int, ...]:
    """Read the values of an entry, ``()`` if they lie outside of the file."""
    count, code = form.place(data, at), _CODES[kind]
    n_bytes = count * struct.calcsize(form.order + code)
    place = at + form.n_place
    start = place if n_bytes <= form.n_place else form.place(data, place)
    if count > _MAX_VALUES or start + n_bytes > len(data):
        return ()
    return struct.unpack_from(f"{form.order}{count}{code}", data, start)
