"""The fields of TIFF directories, which EXIF is made of: only those asked for, only those inside the block.

References:
    TIFF 6.0, section 2; CIPA DC-008 (Exif 2.32), section 4.6.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from bladescan.provenance.budget import BrokenMetadata, Budget

Value = bytes | tuple[int, ...] | tuple[tuple[int, int], ...]
"""Texts and bytes as bytes; whole numbers; ratios as pairs."""

EXIF_POINTER = 0x8769
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 13: 4}
_RAW = frozenset({1, 2, 7})
_CODES = {3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 13: "L"}
_MOST_NUMBERS = 4


class Directory(dict[int, Value]):
    """The fields of one directory by tag, and where the next one begins (0: none)."""

    next_at = 0

    def number(self, tag: int) -> int:
        """Return the first whole number of a field, 0 if there is none."""
        value = self.get(tag)
        first = value[0] if value and not isinstance(value, bytes) else 0
        return first if isinstance(first, int) else 0

    def raw(self, tag: int) -> bytes:
        """Return the bytes of a field, ``b""`` if there are none."""
        value = self.get(tag)
        return value if isinstance(value, bytes) else b""


def first_directory(tiff: bytes) -> int:
    """Find where the first directory begins.

    Raises:
        BrokenMetadata: it is no classic TIFF structure.
    """
    order = _order(tiff)
    if len(tiff) < 8 or struct.unpack_from(order + "H", tiff, 2)[0] != 42:
        raise BrokenMetadata("TIFF: the header is broken, or it is a BigTIFF, which is not read")
    return int(struct.unpack_from(order + "L", tiff, 4)[0])


def read_directory(tiff: bytes, at: int, wanted: Mapping[int, str], budget: Budget) -> Directory:
    """Read the wanted fields of the directory at ``at``; a field that lies outside is left out.

    Raises:
        BrokenMetadata: there is no directory.
    """
    order, found = _order(tiff), Directory()
    if not 8 <= at <= len(tiff) - 2:
        raise BrokenMetadata(f"TIFF: no directory at byte {at}")
    (n_entries,) = struct.unpack_from(order + "H", tiff, at)
    for entry in range(at + 2, min(at + 2 + 12 * n_entries, len(tiff) - 11), 12):
        budget.count_block()
        tag, kind, count = struct.unpack_from(order + "HHL", tiff, entry)
        n_bytes = count * _SIZES.get(kind, 0)
        if tag not in wanted or tag in found or not n_bytes:
            continue
        start = entry + 8 if n_bytes <= 4 else struct.unpack_from(order + "L", tiff, entry + 8)[0]
        if start + n_bytes <= len(tiff):
            found[tag] = _value(tiff, start, kind, count, order, budget)
    end = at + 2 + 12 * n_entries
    if end + 4 <= len(tiff):
        (found.next_at,) = struct.unpack_from(order + "L", tiff, end)
    return found


def _order(tiff: bytes) -> str:
    return "<" if tiff[:2] == b"II" else ">"


def _value(tiff: bytes, start: int, kind: int, count: int, order: str, budget: Budget) -> Value:
    if kind in _RAW:
        return budget.kept(tiff[start : start + count])
    count = min(count, _MOST_NUMBERS)
    if kind in (5, 10):
        flat = struct.unpack_from(f"{order}{2 * count}{'L' if kind == 5 else 'l'}", tiff, start)
        return tuple(zip(flat[::2], flat[1::2], strict=True))
    return struct.unpack_from(f"{order}{count}{_CODES[kind]}", tiff, start)
