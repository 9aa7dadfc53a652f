"""What the header of a BMP says beyond what Pillow makes of it. No pixel is decoded.

References:
    Microsoft, BITMAPV5HEADER; OS/2 2.x bitmap format.
"""

from __future__ import annotations

_WINDOWS_SIZES = frozenset({12, 40, 52, 56, 64, 108, 124})
_INSIDE = {4: "a JPEG", 5: "a PNG"}
_BITFIELDS = 3
_EMBEDDED = b"DEBM"


def bmp_variant(data: bytes) -> str | None:
    """Name the kind of BMP that is not opened; None for one that is, or is damaged."""
    size, compression, bits = _number(data, 14, 4), _number(data, 30, 4), _number(data, 28, 2)
    if 16 <= size < 64 and size not in _WINDOWS_SIZES and size % 2 == 0:
        return f"BMP of OS/2 with a header of {size} bytes"
    if size < 40:
        return None
    if bits == 0 and compression in _INSIDE:
        return f"BMP with {_INSIDE[compression]} inside"
    if compression == _BITFIELDS and bits in (16, 32) and not _is_for_pillow(_masks(data, size), bits):
        return "BMP of unusual bit fields" if _make_sense(_masks(data, size), bits) else None
    return None


def embedded_profile(data: bytes) -> bytes | None:
    """Return the ICC profile of a BMP, None if it has none."""
    if _number(data, 14, 4) != 124 or data[70:74] != _EMBEDDED:
        return None
    start = 14 + _number(data, 126, 4)
    return data[start : start + _number(data, 130, 4)] or None


def with_whole_palette(data: bytes) -> bytes:
    """Let a BMP of 4 or 8 bits have as many colours as its pixels may name.

    With a palette of two, Pillow takes it for one of 1 bit; with a larger one than there can be, for broken.
    """
    size, bits, n_colours = _number(data, 14, 4), _number(data, 28, 2), _number(data, 46, 4)
    # Some say that their pixels begin where their palette does: then its length has to be the true one.
    says_where = _number(data, 10, 4) != 14 + size or n_colours > 1 << bits
    if size < 40 or bits not in (4, 8) or not n_colours or not says_where:
        return data
    return data[:46] + bytes(4) + data[50:]


def _masks(data: bytes, size: int) -> tuple[int, int, int, int]:
    alpha = _number(data, 66, 4) if size >= 56 else 0
    return _number(data, 54, 4), _number(data, 58, 4), _number(data, 62, 4), alpha


def _is_for_pillow(masks: tuple[int, int, int, int], bits: int) -> bool:
    if bits == 16:
        return masks[:3] in ((0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F))
    return masks in (
        (0, 0, 0, 0),
        (0xFF0000, 0xFF00, 0xFF, 0),
        (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
        (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        (0xFF000000, 0xFF0000, 0xFF00, 0),
        (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
        (0xFF000000, 0xFF00, 0xFF, 0),
        (0xFF000000, 0xFF00, 0xFF, 0xFF0000),
    )


def _make_sense(masks: tuple[int, int, int, int], bits: int) -> bool:
    """Tell whether each colour has bits of its own, which stand together."""
    taken = 0
    for mask in masks:
        low = mask & -mask
        if mask >> bits or mask & taken or (mask and (mask // low) & (mask // low + 1)):
            return False
        taken |= mask
    return all(masks[:3])


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")
