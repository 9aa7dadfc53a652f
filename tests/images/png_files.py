"""PNG files written chunk by chunk."""

from __future__ import annotations

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6


def chunk(kind: bytes, body: bytes = b"", *, damaged: bool = False) -> bytes:
    """A chunk, its checksum wrong if it is to be damaged."""
    crc = zlib.crc32(kind + body) ^ (0x5A5A if damaged else 0)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def header(width: int, height: int, depth: int, colour: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def rows_of(samples: np.ndarray, depth: int) -> bytes:
    """The unfiltered rows of samples ``[h, w]`` or ``[h, w, n]``."""
    flat = samples.reshape(len(samples), -1)
    if depth == 16:
        body = flat.astype(">u2").view(np.uint8)
    elif depth == 8:
        body = flat.astype(np.uint8)
    else:
        places = (flat[..., None].astype(np.uint8) >> np.arange(depth - 1, -1, -1, dtype=np.uint8)) & 1
        body = np.packbits(places.reshape(len(flat), -1), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in body)


def write(
    samples: np.ndarray, colour: int, *before: bytes, depth: int = 8, after: tuple[bytes, ...] = ()
) -> bytes:
    """A PNG with chunks before and after those of its pixels."""
    height, width = samples.shape[:2]
    pixels = chunk(b"IDAT", zlib.compress(rows_of(samples, depth)))
    parts = (header(width, height, depth, colour), *before, pixels, *after, chunk(b"IEND"))
    return SIGNATURE + b"".join(parts)
