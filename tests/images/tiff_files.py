"""TIFF files written byte by byte: any directory, and pictures of any layout of samples."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SHORT, LONG, ASCII, BYTE, UNDEFINED, IFD = 3, 4, 2, 1, 7, 13
_SIZES = {BYTE: 1, ASCII: 1, SHORT: 2, LONG: 4, UNDEFINED: 1, IFD: 4, 5: 8, 12: 8, 16: 8}
_CODES = {BYTE: "B", SHORT: "H", LONG: "I", IFD: "I", 16: "Q"}

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
MAKE, STRIPS, ORIENTATION, SAMPLES, ROWS, STRIP_BYTES = 271, 273, 274, 277, 278, 279
PLANAR, PREDICTOR, EXTRA, FORMAT, SUB_FILE, SUB_IFDS = 284, 317, 338, 339, 254, 330
CFA, LINEAR_RAW, DNG_VERSION = 32803, 34892, 50706


class Field(NamedTuple):
    """One field: its tag, its type, and its values, or bytes as they are."""

    tag: int
    kind: int
    values: Sequence[int] | bytes


class Directory(NamedTuple):
    """Fields, the pixels behind the strip fields, and directories below it (tag 330)."""

    fields: tuple[Field, ...]
    pixels: Sequence[bytes] = ()
    below: tuple[Directory, ...] = ()


def write(*pages: Directory, order: str = "<", head: bytes = b"", big: bool = False) -> bytes:
    """A TIFF, or a BigTIFF, of these pages; ``head`` stands between the header and everything else."""
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    start += struct.pack(order + "HHQ", 8, 0, 0) if big else bytes(4)
    out = bytearray(start + head)
    link = 8 if big else 4
    for page in pages:
        at, next_link = _add(out, page, order, big)
        struct.pack_into(order + ("Q" if big else "I"), out, link, at)
        link = next_link
    return bytes(out)


def _add(out: bytearray, page: Directory, order: str, big: bool) -> tuple[int, int]:
    fields = {field.tag: field for field in page.fields}
    if page.pixels:
        offsets = []
        for strip in page.pixels:
            out += bytes(len(out) % 2)
            offsets.append(len(out))
            out += strip
        fields[STRIPS] = Field(STRIPS, LONG, offsets)
        fields[STRIP_BYTES] = Field(STRIP_BYTES, LONG, [len(strip) for strip in page.pixels])
    if page.below:
        fields[SUB_IFDS] = Field(SUB_IFDS, LONG, [_add(out, each, order, big)[0] for each in page.below])
    entries = b"".join(_entry(out, fields[tag], order, big) for tag in sorted(fields))
    out += bytes(len(out) % 2)
    at = len(out)
    out += struct.pack(order + ("Q" if big else "H"), len(fields)) + entries
    out += bytes(8 if big else 4)
    return at, len(out) - (8 if big else 4)


def _entry(out: bytearray, field: Field, order: str, big: bool) -> bytes:
    tag, kind, values = field
    if isinstance(values, bytes):
        body, count = values, len(values) // _SIZES[kind]
    else:
        body, count = struct.pack(f"{order}{len(values)}{_CODES[kind]}", *values), len(values)
    room = 8 if big else 4
    if len(body) > room:
        out += bytes(len(out) % 2)
        at = len(out)
        out += body
        body = struct.pack(order + ("Q" if big else "I"), at)
    return struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, count) + body.ljust(room, b"\0")


def page_of(
    samples: np.ndarray,
    photometric: int,
    *,
    bits: int | None = None,
    order: str = "<",
    deflate: bool = False,
    planar: bool = False,
    strip_rows: int | None = None,
    more: Sequence[Field] = (),
) -> Directory:
    """A page whose samples ``[h, w]`` or ``[h, w, n]`` are stored as they are.

    Args:
        samples: integers or floats; of fewer than 8 bits as uint8.
        photometric: what they mean.
        bits: of a sample; those of its type without it.
        order: of the bytes of a sample.
        deflate: compressed.
        planar: one plane after the other.
        strip_rows: rows in a strip; all of them without it.
        more: further fields.
    """
    cube = samples if samples.ndim == 3 else samples[..., None]
    height, width, n = cube.shape
    bits = bits or 8 * cube.dtype.itemsize
    kind = {"u": 1, "i": 2, "f": 3}[cube.dtype.kind]
    rows = strip_rows or height
    planes = [cube[..., i : i + 1] for i in range(n)] if planar else [cube]
    strips = [_packed(plane[y : y + rows], bits, order) for plane in planes for y in range(0, height, rows)]
    fields = [
        Field(WIDTH, SHORT, [width]),
        Field(HEIGHT, SHORT, [height]),
        Field(BITS, SHORT, [bits] * n),
        Field(COMPRESSION, SHORT, [8 if deflate else 1]),
        Field(PHOTOMETRIC, SHORT, [photometric]),
        Field(SAMPLES, SHORT, [n]),
        Field(ROWS, SHORT, [rows]),
        Field(PLANAR, SHORT, [2 if planar else 1]),
        Field(FORMAT, SHORT, [kind] * n),
        *more,
    ]
    return Directory(tuple(fields), [zlib.compress(strip) if deflate else strip for strip in strips])


def picture(samples: np.ndarray, photometric: int, *, order: str = "<", **options) -> bytes:
    """A TIFF of one page; see `page_of`."""
    return write(page_of(samples, photometric, order=order, **options), order=order)


def _packed(block: np.ndarray, bits: int, order: str) -> bytes:
    if bits >= 8:
        if bits == 12:
            return _in_bits(block, 12)
        return block.astype(block.dtype.newbyteorder(order)).tobytes()
    return _in_bits(block, bits)


def _in_bits(block: np.ndarray, bits: int) -> bytes:
    """Rows of samples of few bits, each row from a byte of its own."""
    rows = block.reshape(block.shape[0], -1)
    places = (rows[..., None].astype(np.uint32) >> np.arange(bits - 1, -1, -1, dtype=np.uint32)) & 1
    return np.packbits(places.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()
