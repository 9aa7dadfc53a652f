"""Damaged copies of image files: a seed names the file, the kind of damage and every byte of it."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from benchmarks.endurance.marked import marked_originals
from bladescan.base.errors import ImageError
from bladescan.base.records import Reason
from bladescan.images.decoding import decode_image
from bladescan.images.limits import Limits

LARGEST_ORIGINAL = 64_000
"""Bytes: larger files would only make a run slower."""
STRIKING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_PNG = b"\x89PNG\r\n\x1a\n"


def originals(folder: Path) -> list[bytes]:
    """The images below a folder in the order of their names, without the large ones.

    Those that can be read come three times: damage to a file that is refused at its first byte finds nothing.
    """
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    files = [path.read_bytes() for path in paths if 0 < path.stat().st_size <= LARGEST_ORIGINAL]
    files = [data for data in files if refusal(data) not in (Reason.NOT_AN_IMAGE, Reason.FORMAT_NOT_ALLOWED)]
    return files + 2 * [data for data in files if refusal(data) is None]


def refusal(data: bytes) -> Reason | None:
    """Why a file is not read; None if it is."""
    try:
        for _ in decode_image(data, Limits(max_pixels=4_000_000)).frames:
            pass
    except ImageError as exc:
        return exc.reason
    return None


def made_originals() -> list[bytes]:
    """Small pictures of every format that Pillow writes here, with every kind of metadata."""
    colours = Image.effect_mandelbrot((96, 64), (-2.0, -1.0, 1.0, 1.0), 60)
    picture = Image.merge("RGB", [colours, colours.rotate(90), colours.rotate(180)])
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    later = [picture.rotate(angle) for angle in (120, 240)]
    moving = {"save_all": True, "append_images": later, "duration": 40}
    wanted: list[tuple[str, dict[str, object]]] = [
        ("JPEG", {"exif": exif}),
        ("JPEG", {"progressive": True}),
        ("PNG", {"exif": exif}),
        ("PNG", moving),
        ("WEBP", {"exif": exif}),
        ("WEBP", {"lossless": True}),
        ("WEBP", moving),
        ("GIF", moving),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate", **moving}),
        ("BMP", {}),
        ("AVIF", {"speed": 10}),
        ("PPM", {}),
    ]
    return [_encoded(picture, kind, options) for kind, options in wanted] + marked_originals()


def _encoded(picture: Image.Image, kind: str, options: dict[str, object]) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def mutant(seed: int, files: Sequence[bytes]) -> bytes:
    """The damaged file of a seed: one original, one, two or four kinds of damage."""
    rng = random.Random(seed)
    data = bytearray(rng.choice(files))
    is_png = data.startswith(_PNG)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(KINDS)(data, rng, files)
    # With right checksums the damage reaches the code behind them.
    return with_png_checksums(bytes(data)) if is_png and rng.random() < 0.7 else bytes(data)


def _place(data: bytearray, rng: random.Random) -> int:
    """Half of them near the beginning, where the structure is."""
    return rng.randrange(max(1, min(len(data), rng.choice((64, 1024, 1 << 30, 1 << 30)))))


def _flip_bits(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 2, 8, 64))):
        at = _place(data, rng)
        data[at : at + 1] = bytes(byte ^ (1 << rng.randrange(8)) for byte in data[at : at + 1])


def _set_number(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> None:
    at, size = _place(data, rng), rng.choice((1, 2, 4))
    value = rng.choice((*STRIKING, rng.getrandbits(32))) & ((1 << 8 * size) - 1)
    data[at : at + size] = value.to_bytes(size, rng.choice(("big", "little")))


def _nudge_number(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> None:
    at, size = _place(data, rng), rng.choice((1, 2, 4))
    order = rng.choice(("big", "little"))
    value = int.from_bytes(data[at : at + size], order) + rng.choice((-2, -1, 1, 2, 255))
    data[at : at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, order)


def _truncate(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> None:
    del data[_place(data, rng) :]


def _remove(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> None:
    at = _place(data, rng)
    del data[at : at + rng.choice((1, 2, 4, 64, 1024))]


def _insert(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> None:
    at, size = _place(data, rng), rng.choice((1, 2, 4, 64, 1024))
    data[at:at] = rng.randbytes(size) if rng.random() < 0.5 else bytes([rng.choice((0, 255))]) * size


def _repeat(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> None:
    at = _place(data, rng)
    data[at:at] = data[at : at + rng.choice((4, 32, 512, 4096))]


def _splice(data: bytearray, rng: random.Random, files: Sequence[bytes]) -> None:
    """A piece of another file in place of a piece of this one."""
    other = rng.choice(files)
    size = rng.choice((16, 256, 4096, len(other)))
    at, start = _place(data, rng), rng.randrange(len(other))
    piece = other[start : start + size]
    data[at : at + (len(piece) if rng.random() < 0.5 else 0)] = piece


KINDS: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    _flip_bits,
    _flip_bits,
    _set_number,
    _set_number,
    _nudge_number,
    _truncate,
    _remove,
    _insert,
    _repeat,
    _splice,
)


def with_png_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold."""
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        if len(body) < 4 + length:
            break
        parts.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(parts) + data[at:]
