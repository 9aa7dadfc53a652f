"""The samples of a TIFF page that Pillow misreads or does not read, by NumPy.

Whole numbers of 1 to 32 bits and floats of 16 to 64, in strips or tiles, together or in planes, in either
byte order, uncompressed or without loss. `Layout.problem` names everything else, so that nothing is shown
that the file does not mean.

References:
    TIFF 6.0, sections 3 to 8, 14, 15 and 18; TIFF Technical Note 3 (predictor of floats).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, TiffImagePlugin

from bladescan.images.colour import scaled, value_range

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RAW, _DEFLATE = 1, (8, 32946)
_BY_LIBTIFF = (5, 32773, 34925, 50000)
"""LZW, PackBits, LZMA, Zstandard: bytes in, bytes out."""
_WHITE_IS_ZERO, _GREY, _RGB, _CMYK = 0, 1, 2, 5
_COLOURS = {_WHITE_IS_ZERO: 1, _GREY: 1, _RGB: 3, _CMYK: 4}
_WHOLE, _SIGNED, _FLOAT = 1, 2, 3
_BITS = {_WHOLE: (1, 2, 4, 8, 12, 16, 32), _SIGNED: (8, 16, 32), _FLOAT: (16, 32, 64)}
_ASSOCIATED, _UNASSOCIATED = 1, 2
_MODES = {(1, False): "L", (1, True): "LA", (3, False): "RGB", (3, True): "RGBA", (4, False): "CMYK"}
_BLOCK_ROWS = 128


@dataclass(frozen=True, slots=True)
class Layout:
    """How the samples of a page are stored, by the fields of its directory.

    Attributes:
        order: ``<`` or ``>``.
        width, height: in pixels.
        photometric, compression, predictor, kind, bits: by the numbers of the specification.
        n_samples: of a pixel.
        extra: what the samples beyond those of the colour mean.
        planes: each sample in a plane of its own.
        fill_order: of the bits in a byte.
        block: width and height of a strip or tile.
        places: offset and length of each strip or tile.
    """

    order: str
    width: int
    height: int
    photometric: int
    compression: int
    predictor: int
    kind: int
    bits: int
    n_samples: int
    extra: tuple[int, ...]
    planes: bool
    fill_order: int
    block: tuple[int, int]
    places: tuple[tuple[int, int], ...]

    @property
    def is_for_pillow(self) -> bool:
        """Whether Pillow reads such a page as it is meant."""
        if self.photometric not in _COLOURS:
            return True  # palettes, YCbCr, Lab: Pillow knows few layouts, and those right
        if self.kind != _WHOLE or self.bits not in (1, 2, 4, 8, 16):
            return False
        if _COLOURS[self.photometric] == 1:
            if self.extra:
                plain = self.bits == 8 and self.photometric == _GREY and not self.planes
                return plain and self.extra == (_UNASSOCIATED,)
            return self.bits <= 8 or self.photometric == _GREY
        plain = self.n_samples == _COLOURS[self.photometric] and self.bits == 8
        return self.bits >= 8 and (plain or not self.planes)

    @property
    def problem(self) -> str:
        """What keeps the page from being read here; ``""`` if nothing does."""
        what = f"TIFF of {self.n_samples} x {self.bits} bits"
        what += {_WHOLE: "", _SIGNED: ", signed", _FLOAT: ", float"}.get(self.kind, f", format {self.kind}")
        if self.photometric not in _COLOURS or self.bits not in _BITS.get(self.kind, ()):
            return f"{what}, photometric interpretation {self.photometric}"
        if self.compression not in (_RAW, *_DEFLATE, *_BY_LIBTIFF) or self.fill_order != 1:
            return f"{what} with compression {self.compression}, fill order {self.fill_order}"
        floats = self.predictor == 3 and self.kind == _FLOAT
        if self.predictor not in (1, 2) and not floats:
            return f"{what} with predictor {self.predictor}"
        if self.predictor == 2 and self.bits not in (8, 16, 32):
            return f"{what} with predictor 2"
        return "" if self.n_samples >= _COLOURS[self.photometric] else what


def layout_of(tags: Mapping[int, Any], order: str) -> Layout | None:
    """Understand a directory as Pillow reads it; None if a field that is needed is missing or absurd.

    Args:
        tags: values by tag: numbers, or tuples of them.
        order: ``<`` or ``>``.
    """

    def numbers(tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        value = tags.get(tag, default)
        return value if isinstance(value, tuple) else (value,)

    def number(tag: int, default: int) -> int:
        return int(next(iter(numbers(tag)), default))

    width, height, n_samples = number(256, 0), number(257, 0), number(277, 1)
    bits, kinds = set(numbers(258, (1,))[:n_samples]), set(numbers(339, (1,))[:n_samples])
    offsets, lengths = numbers(324) or numbers(273), numbers(325) or numbers(279)
    if len(bits) != 1 or len(kinds) != 1 or min(width, height, n_samples) < 1 or n_samples > 64:
        return None
    block = (number(322, width), number(323, height) if 324 in tags else min(number(278, height), height))
    if min(block) < 1 or not offsets:
        return None
    photometric = number(262, 0)
    n_colours = _COLOURS.get(photometric, n_samples)
    # A fourth sample of RGB that the file says nothing of is opacity, if it is anything.
    unsaid = _UNASSOCIATED if photometric == _RGB and n_samples == 4 else 0
    extra = numbers(338) or (unsaid,) * max(0, n_samples - n_colours)
    if len(offsets) == 1 == len(lengths) or not lengths:
        lengths = lengths or (1 << 62,)
    return Layout(
        order, width, height, photometric, number(259, 1), number(317, 1), kinds.pop(), bits.pop(), n_samples,
        extra[: max(0, n_samples - n_colours)], number(284, 1) == 2, number(266, 1),
        block,
        tuple(zip(offsets, lengths, strict=False)),
    )  # fmt: skip


def read_page(data: bytes, layout: Layout) -> Image.Image:
    """Read a page as a picture of 8 bits: L, LA, RGB, RGBA or CMYK, by the rules of ``docs/formats.md``.

    Raises:
        ValueError: the pixels are damaged.
        EOFError: bytes are missing.
    """
    samples = _samples(data, layout)
    n_colours = _COLOURS[layout.photometric]
    colours = samples[..., :n_colours]
    low, high = _range(colours, layout)
    out = np.empty(colours.shape, np.uint8)
    for top in range(
        0, layout.height, _BLOCK_ROWS
    ):  # in blocks: floats of a whole picture take eight times it
        out[top : top + _BLOCK_ROWS] = scaled(colours[top : top + _BLOCK_ROWS], low, high)
    if layout.photometric == _WHITE_IS_ZERO:
        np.subtract(255, out, out=out)
    alpha = _alpha(samples, layout)
    if alpha is not None:
        if layout.extra[0] == _ASSOCIATED:
            out = np.minimum(out.astype(np.uint16) * 255 // np.maximum(alpha, 1), 255).astype(np.uint8)
        out = np.concatenate([out, alpha], axis=2)
    mode = _MODES[n_colours, alpha is not None]
    return Image.frombytes(mode, (layout.width, layout.height), np.ascontiguousarray(out).tobytes())


def _alpha(samples: NDArray[Any], layout: Layout) -> NDArray[np.uint8] | None:
    n_colours = _COLOURS[layout.photometric]
    if not layout.extra or layout.extra[0] not in (_ASSOCIATED, _UNASSOCIATED) or n_colours == 4:
        return None
    alpha = samples[..., n_colours : n_colours + 1]
    white = 1.0 if layout.kind == _FLOAT else _most(layout)
    return scaled(alpha, 0.0, white)


def _most(layout: Layout) -> float:
    return float((1 << (layout.bits - (layout.kind == _SIGNED))) - 1)


def _range(values: NDArray[Any], layout: Layout) -> tuple[float, float]:
    """Find the values of black and white, as `value_range` does where the layout does not state them."""
    if layout.kind == _WHOLE and (layout.bits <= 16 or _ASSOCIATED in layout.extra[:1]):
        return 0.0, _most(layout)
    return value_range(values)


def _samples(data: bytes, layout: Layout) -> NDArray[Any]:
    """Read all blocks into ``[height, width, n_samples]``."""
    out = np.empty((layout.height, layout.width, layout.n_samples), _dtype(layout).newbyteorder("="))
    if len(layout.places) < _n_blocks(layout):
        raise EOFError("strips or tiles are missing")
    for (offset, length), (plane, top, left) in zip(layout.places, _corners(layout), strict=False):
        width, height = layout.block
        high = min(height, layout.height - top) if width == layout.width else height
        n = 1 if layout.planes else layout.n_samples
        block = _block(data, offset, length, (high, width, n), layout)
        block = block[: layout.height - top, : layout.width - left]
        where = slice(plane, plane + 1) if layout.planes else slice(None)
        out[top : top + block.shape[0], left : left + block.shape[1], where] = block
    return out


def _n_blocks(layout: Layout) -> int:
    width, height = layout.block
    across, down = -(-layout.width // width), -(-layout.height // height)
    return across * down * (layout.n_samples if layout.planes else 1)


def _corners(layout: Layout) -> Iterator[tuple[int, int, int]]:
    """Yield the plane, the top and the left of each block, in the order of the file."""
    width, height = layout.block
    for plane in range(layout.n_samples if layout.planes else 1):
        for top in range(0, layout.height, height):
            for left in range(0, layout.width, width):
                yield plane, top, left


def _dtype(layout: Layout) -> np.dtype[Any]:
    letter = {_WHOLE: "u", _SIGNED: "i", _FLOAT: "f"}[layout.kind]
    size = 1 if layout.bits < 8 else 2 if layout.bits == 12 else layout.bits // 8
    return np.dtype(f"{layout.order}{letter}{size}")


def _block(
    data: bytes, offset: int, length: int, shape: tuple[int, int, int], layout: Layout
) -> NDArray[Any]:
    height, width, n = shape
    row_bytes = (width * n * layout.bits + 7) // 8
    body: bytes | memoryview = memoryview(data)[offset : offset + length]
    if layout.compression in _DEFLATE:
        try:
            body = zlib.decompressobj().decompress(body, height * row_bytes)
        except zlib.error as exc:
            raise ValueError(f"broken deflate data: {exc}") from exc
    elif layout.compression != _RAW:
        body = _by_libtiff(bytes(body), layout.compression, height, row_bytes)
    if len(body) < height * row_bytes:
        raise EOFError(f"a strip or tile holds {len(body)} of {height * row_bytes} bytes: truncated")
    flat = np.frombuffer(body, np.uint8, height * row_bytes).reshape(height, row_bytes)
    return _predicted(flat, shape, layout)


def _by_libtiff(body: bytes, compression: int, height: int, row_bytes: int) -> bytes:
    """Decompress by libtiff: as a grey picture whose pixels are the bytes."""
    tags = (
        *((256, 4, row_bytes), (257, 4, height), (258, 3, 8), (259, 3, compression), (262, 3, 1)),
        *((273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(body))),
    )
    at = 8 + len(body) + len(body) % 2
    fields = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<I", at) + body.ljust(at - 8, b"\0")
    file = head + struct.pack("<H", len(tags)) + fields + bytes(4)
    return TiffImagePlugin.TiffImageFile(io.BytesIO(file)).tobytes()


def _predicted(flat: NDArray[np.uint8], shape: tuple[int, int, int], layout: Layout) -> NDArray[Any]:
    """Make samples of the bytes of rows, and undo the predictor, which only compressed files have."""
    height, width, n = shape
    dtype = _dtype(layout)
    if layout.bits % 8:
        return _unpacked(flat, width * n, layout.bits).reshape(shape)
    predictor = 1 if layout.compression == _RAW else layout.predictor
    if predictor == 3:  # differences of bytes, the highest of all samples first
        summed = np.cumsum(flat.reshape(height, -1, n), axis=1, dtype=np.uint8).reshape(
            height, dtype.itemsize, -1
        )
        together = np.ascontiguousarray(summed.transpose(0, 2, 1))
        return together.view(dtype.newbyteorder(">")).reshape(shape)
    samples = flat.view(dtype).reshape(shape)
    if predictor == 2:
        whole = samples.astype(np.dtype(f"=u{dtype.itemsize}")) if dtype.kind != "f" else samples
        return np.cumsum(whole, axis=1, dtype=whole.dtype).view(dtype.newbyteorder("="))
    return samples


def _unpacked(flat: NDArray[np.uint8], n_values: int, bits: int) -> NDArray[Any]:
    """Take samples of 1, 2, 4 or 12 bits apart; each row begins with a byte."""
    places = np.unpackbits(flat, axis=1)[:, : n_values * bits].reshape(len(flat), n_values, bits)
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    return np.asarray((places * weights).sum(axis=2, dtype=np.uint16))
