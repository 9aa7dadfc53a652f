"""Small files that ask for much: what the decoder process spends on them, and a test for every reason."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bladescan.base.records import Reason
from bladescan.images.decoding import MAX_PLAYED_FRAMES, decode_image
from bladescan.images.formats import MAX_LISTED_FRAMES
from bladescan.images.limits import Limits
from bladescan.scanning.decoder_process import Decoded, DecoderSettings, Request
from bladescan.scanning.decoders import DecoderProcess, decoder_process
from tests import ROOT

pytestmark = pytest.mark.integration
TESTS = ROOT / "tests"
ZEROS = zlib.compress(bytes(100_000_000), 9)
"""A hundred million bytes in a hundred thousand."""
DEFAULT = Limits()
CPU_S = 10.0
GROWTH_MIB = 300.0


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *before: bytes, rows: bytes = b"", depth: int = 8, colour: int = 0) -> bytes:
    rows = rows or bytes(width + 1) * height
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), *before]
    parts += [chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def gif(n_frames: int, side: int = 16) -> bytes:
    data = encoded(Image.new("P", (side, side)), "GIF")
    start = 13 + (3 << ((data[10] & 7) + 1))
    return data[:start] + data[start:-1] * n_frames + b";"


def tiff(n_pages: int, more: tuple[tuple[int, int, int, int], ...] = (), tail: bytes = b"") -> bytes:
    """Pages that share one strip of pixels; tags as (number, type, count, value)."""
    tags = [(256, 3, 1, 16), (257, 3, 1, 16), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8), (278, 3, 1, 16), (279, 4, 1, 256), *more]
    body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    out = bytearray(b"II*\0" + struct.pack("<I", 264) + bytes(256))
    for page in range(n_pages):
        following = len(out) + len(body) + 4 if page < n_pages - 1 else 0
        out += body + struct.pack("<I", following)
    return bytes(out) + tail


def jpeg(side: int, n_scans: int) -> bytes:
    """A progressive JPEG whose last scan is there ``n_scans`` times more."""
    data = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda")) : -2]
    return data[:-2] + scan * n_scans + b"\xff\xd9"


def declared(kind: str, side: int = 0xFFFF) -> bytes:
    """A file whose header says that the picture is as large as the format allows."""
    data = bytearray(encoded(Image.new("L", (64, 64)), kind))
    if kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", side, side)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", side, side)
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", side, side)
    elif kind == "AVIF":
        at = data.index(b"ispe") + 8
        data[at : at + 8] = struct.pack(">II", side, side)
    elif kind == "TIFF":
        for tag in (256, 257):  # their type may be short or long; the value stands in the entry
            at = data.index(struct.pack("<H", tag), int.from_bytes(data[4:8], "little"))
            data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, side)
    return bytes(data)


def exif_of_many_gigabytes(n_tags: int = 3000, size: int = 10_000_000) -> bytes:
    """Each tag claims the same ten million bytes as its own value."""
    tags = b"".join(struct.pack("<HHII", 50_000 + i, 1, size, 8) for i in range(n_tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", n_tags) + tags + bytes(4 + size)


BOMBS: dict[str, tuple[Callable[[], bytes], Reason | None]] = {
    "png-50000": (
        lambda: png(50_000, 50_000, rows=bytes(9_000_000)),
        Reason.TOO_MANY_PIXELS,
    ),
    "jpeg-size": (lambda: declared("JPEG"), Reason.TOO_MANY_PIXELS),
    "gif-size": (lambda: declared("GIF"), Reason.TOO_MANY_PIXELS),
    "bmp-size": (lambda: declared("BMP"), Reason.TOO_MANY_PIXELS),
    "tiff-size": (lambda: declared("TIFF"), Reason.TOO_MANY_PIXELS),
    "ppm-size": (lambda: b"P6 100000 100000 255\n" + bytes(100), Reason.TOO_MANY_PIXELS),
    "jpeg-scans": (lambda: jpeg(4000, 2000), Reason.TOO_MANY_PIXELS),
    "gif-100000": (lambda: gif(100_000), None),
    "gif-frames": (lambda: gif(1_000_000), Reason.TOO_MANY_FRAMES),
    "tiff-100000": (lambda: tiff(100_000), None),
    "tiff-pages": (lambda: tiff(MAX_LISTED_FRAMES + 10), Reason.TOO_MANY_FRAMES),
    "tiff-tags": (
        lambda: tiff(
            1, tuple((40_000 + i % 20_000, 1, 9_000_000, 8) for i in range(65_000)), bytes(10_000_000)
        ),
        None,
    ),
    "png-iccp": (lambda: png(64, 64, chunk(b"iCCP", b"x\0\0" + ZEROS)), None),
    "png-ztxt": (lambda: png(64, 64, chunk(b"zTXt", b"x\0\0" + ZEROS)), None),
    "png-itxt": (lambda: png(64, 64, chunk(b"iTXt", b"x\0\1\0\0\0" + ZEROS)), None),
    "png-idat": (lambda: png(64, 64, rows=bytes(100_000_000)), None),
    "svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>" + bytes(100), Reason.FORMAT_NOT_ALLOWED),
    "zip": (lambda: b"PK\3\4" + ZEROS, Reason.NOT_AN_IMAGE),
    "gzip": (lambda: b"\x1f\x8b\x08" + ZEROS, Reason.NOT_AN_IMAGE),
}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {name: make() for name, (make, _) in BOMBS.items()}


def spent(process: DecoderProcess) -> tuple[float, float]:
    """CPU seconds and most MiB resident so far."""
    assert process.process is not None
    folder = Path(f"/proc/{process.process.pid}")
    user, system = (folder / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
    most = (folder / "status").read_text().split("VmHWM:")[1].split()[0]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK"), int(most) / 1024


def decode_and_measure(data: bytes, limits: Limits = DEFAULT) -> tuple[Decoded, float, float]:
    """The answer of a fresh process, CPU seconds, and MiB beyond those of its start and of the request."""
    process = decoder_process(DecoderSettings(faces="none", limits=limits, timeout_s=120.0))
    try:
        process.start()
        seconds, mib = spent(process)
        answer = process.ask(Request(b"x", data))
        seconds_then, mib_then = spent(process)
    finally:
        process.kill()
    return answer, seconds_then - seconds, mib_then - mib - 2 * len(data) / (1 << 20)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_little_and_has_its_reason(name, files):
    answer, seconds, mib = decode_and_measure(files[name])
    assert answer.reason is BOMBS[name][1], answer.detail
    assert seconds < CPU_S and mib < GROWTH_MIB


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_played_no_further_than_its_limit(kind):
    frames = [Image.new("L", (16, 16), i % 256) for i in range(MAX_PLAYED_FRAMES + 60)]
    lossless = {"lossless": True, "method": 0} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=20, **lossless)
    decoded = decode_image(data, Limits())
    indices = [index for index, _ in decoded.frames]
    assert decoded.n_frames == len(frames)
    assert indices[0] == 0 and indices[-1] == MAX_PLAYED_FRAMES - 1 and len(indices) == 8


def test_the_last_page_of_a_long_tiff_within_the_limit_is_read():
    decoded = decode_image(tiff(MAX_PLAYED_FRAMES), Limits())
    assert [index for index, _ in decoded.frames][-1] == MAX_PLAYED_FRAMES - 1


def test_pages_of_a_tiff_are_counted_as_pillow_counts_them(tmp_path):
    rng = np.random.default_rng(3)
    for n_pages, big in ((1, False), (3, False), (17, True)):
        pages = [Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)) for _ in range(n_pages)]
        data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], big_tiff=big)
        assert decode_image(data, Limits()).n_frames == Image.open(io.BytesIO(data)).n_frames == n_pages


def test_a_tiff_whose_pages_go_in_a_circle_ends():
    data = bytearray(tiff(3))
    data[-4:] = struct.pack("<I", 264)
    assert decode_image(bytes(data), Limits()).n_frames == 3


def test_an_ordinary_progressive_jpeg_of_the_largest_size_has_few_enough_scans():
    data = encoded(Image.effect_noise((1000, 1000), 60), "JPEG", progressive=True)
    assert decode_image(data, Limits(max_pixels=1_000_000)).format == "JPEG"


def test_memory_is_bounded_at_the_pixel_limit():
    side = 2000
    limits = Limits(max_pixels=side * side)
    rows = np.random.default_rng(0).bytes((8 * side + 1) * 4) * (side // 4)
    rows = b"".join(b"\0" + rows[i * 8 * side : (i + 1) * 8 * side] for i in range(side))
    answer, _, mib = decode_and_measure(png(side, side, rows=rows, depth=16, colour=6), limits)
    assert answer.reason is None
    assert mib < 24 * side * side / (1 << 20) + 32


def test_exif_that_claims_more_than_the_machine_has_costs_no_picture():
    data = png(64, 64, chunk(b"eXIf", exif_of_many_gigabytes()))
    limits = Limits(max_pixels=1_000_000, max_bytes=20_000_000)
    answer, seconds, mib = decode_and_measure(data, limits)
    assert (answer.reason, answer.width) == (None, 64)
    assert mib < GROWTH_MIB and seconds < CPU_S


def test_a_decoder_that_would_take_more_memory_than_any_image_needs_is_refused_it():
    code = """
from bladescan.scanning.decoder_process import bound_memory
from bladescan.images.limits import Limits
bound_memory(Limits(max_pixels=1_000_000, max_bytes=1_000_000))
held = bytearray(1 << 29)
try:
    bytearray(2 << 30)
except MemoryError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"refused\n"


def test_a_polyglot_is_what_it_begins_as():
    picture = encoded(Image.new("RGB", (32, 32), (9, 99, 199)), "GIF")
    for tail in (b"<script>alert(1)</script>", b"PK\3\4" + bytes(100), b"\xff\xd8\xff\xe0", b"%PDF-1.7"):
        assert decode_image(picture + tail, Limits()).format == "GIF"


TESTED_IN = {
    Reason.TRUNCATED: "images/test_reasons.py",
    Reason.CORRUPT: "images/test_reasons.py",
    Reason.EMPTY: "images/test_reasons.py",
    Reason.NOT_AN_IMAGE: "images/test_reasons.py",
    Reason.FORMAT_NOT_ALLOWED: "images/test_formats.py",
    Reason.TOO_MANY_PIXELS: "images/test_reasons.py",
    Reason.TOO_MANY_FRAMES: "images/test_bombs.py",
    Reason.TOO_MANY_BYTES: "images/test_files.py",
    Reason.TOO_SMALL: "images/test_reasons.py",
    Reason.TIMEOUT: "scanning/test_decoders.py",
    Reason.DECODER_CRASHED: "scanning/test_decoders.py",
    Reason.PERMISSION_DENIED: "images/test_files.py",
    Reason.NOT_FOUND: "sources/test_listing.py",
    Reason.VANISHED: "images/test_files.py",
    Reason.NOT_A_FILE: "sources/test_listing.py",
    Reason.READ_ERROR: "images/test_bombs.py",
}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_test(reason):
    text = (TESTS / TESTED_IN[reason]).read_text() if reason in TESTED_IN else ""
    assert re.search(rf"Reason\.{reason.name}\b", text)


def test_a_file_that_the_system_cannot_read_is_a_read_error():
    process = decoder_process(DecoderSettings(faces="none"))
    try:
        answer = process.ask(Request(b"/proc/self/mem"))  # its first page is nobody's: EIO
    finally:
        process.kill()
    assert answer.reason is Reason.READ_ERROR and answer.detail
