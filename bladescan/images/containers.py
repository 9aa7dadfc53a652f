"""The structure of image files around their pixels: kinds, frames, and whether bytes are missing.

Nothing is decoded. Each function takes a file's bytes.
"""

from __future__ import annotations

from typing import Literal

from bladescan.images.tiff_directories import directories

MAX_LISTED_FRAMES = 100_000
"""Frames or pages of a file that is opened; to count more than these takes seconds."""

_PIXEL_PLACES = ((273, 279), (324, 325))
"""Tags of offsets and lengths, of strips and of tiles."""
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})


def iso_media_format(data: bytes) -> str | None:
    """Name the format of an ISO media file (one with ``ftyp``) by its brands; None if it is no image."""
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[i : i + 4] for i in (8, *range(16, end - 3, 4))]
    for brand in brands:  # the major brand comes first; "mif1" leaves the choice to those after it
        if brand in (b"avif", b"avis"):
            return "AVIF"
        if brand in _HEIF_BRANDS:
            return "HEIF"
    names = {b"mif1": "HEIF", b"msf1": "HEIF", b"crx ": "camera raw (CR3)"}
    return names.get(brands[0])


def webp_ends_early(data: bytes) -> bool:
    """Tell whether a WebP is shorter than its header says."""
    return int.from_bytes(data[4:8], "little") + 8 > len(data)


def gif_ends_early(data: bytes) -> bool:
    """Tell whether a GIF lacks its end mark."""
    return not walk_gif(data)[1]


def walk_gif(data: bytes) -> tuple[int, bool]:
    """Count the frames of a GIF, and tell whether the end mark follows them."""
    pos = 13 + _gif_table_bytes(data[10:11])
    n_frames = 0
    while pos < len(data) and n_frames <= MAX_LISTED_FRAMES:
        mark = data[pos]
        if mark == 0x3B:
            return n_frames, True
        if mark == 0x2C:  # a frame: its descriptor, perhaps a colour table, the code size
            n_frames += 1
            pos += 11 + _gif_table_bytes(data[pos + 9 : pos + 10])
        elif mark == 0x21:  # an extension and its label
            pos += 2
        else:  # stray bytes between blocks are skipped, as Pillow does
            pos += 1
            continue
        while pos < len(data) and data[pos]:
            pos += data[pos] + 1
        pos += 1
    return n_frames, False


def walk_tiff(data: bytes) -> tuple[int, bool]:
    """Count the pages of a TIFF, and tell whether their list ends in the file.

    Pillow's own count takes time that grows with the square of their number.
    """
    order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
    wide = int.from_bytes(data[2:4], order) == 43  # BigTIFF
    n_count, n_entry, n_next = (8, 20, 8) if wide else (2, 12, 4)
    pos, seen = int.from_bytes(data[8:16] if wide else data[4:8], order), set[int]()
    while pos and pos not in seen and len(seen) <= MAX_LISTED_FRAMES:
        seen.add(pos)
        pos += n_count + n_entry * int.from_bytes(data[pos : pos + n_count], order)
        if pos + n_next > len(data):
            return len(seen), False
        pos = int.from_bytes(data[pos : pos + n_next], order)
    return len(seen), True


def tiff_ends_early(data: bytes) -> bool:
    """Tell whether a directory of a TIFF, or pixels that one names, lie past its end."""
    tags = frozenset(tag for pair in _PIXEL_PLACES for tag in pair)
    for page in directories(data, tags):
        if page.depth == 0 and not page.is_whole:
            return True
        for starts, lengths in _PIXEL_PLACES:
            places = zip(page.fields.get(starts, ()), page.fields.get(lengths, ()), strict=False)
            if page.depth == 0 and any(start + length > len(data) for start, length in places):
                return True
    return False


def _gif_table_bytes(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
