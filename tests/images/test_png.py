"""PNGs: chunks that are damaged, or say how the pixels are meant."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from bladescan.base.records import Reason
from bladescan.images.decoding import decode_image
from bladescan.images.limits import Limits
from bladescan.images.png_chunks import clean_png
from tests.images import png_files as p
from tests.images.pictures import animation, corners, encode, first, off, ramp, reason_of, refusal_of

PIXELS = np.asarray(corners())
RAMP = ramp()

ANCILLARY = {
    "tEXt": b"Title\0a",
    "zTXt": b"Title\0\0" + zlib.compress(b"a"),
    "iTXt": b"Title\0\0\0\0\0a",
    "tIME": bytes(7),
    "pHYs": struct.pack(">IIB", 2835, 2835, 1),
    "gAMA": struct.pack(">I", 45455),
    "cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
    "sRGB": b"\0",
    "sBIT": b"\x08\x08\x08",
    "bKGD": bytes(6),
    "hIST": bytes(6),
    "sPLT": b"x\0\x08",
    "iCCP": b"x\0\0" + zlib.compress(b"no profile"),
    "eXIf": b"II*\0\x08\0\0\0\0\0\0\0\0\0",
    "cICP": b"\1\x0d\0\1",
    "prVt": b"private",
    "tRNS": struct.pack(">3H", 250, 20, 20),
}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", ANCILLARY)
def test_a_wrong_checksum_of_what_holds_no_pixels_loses_no_picture(kind, place):
    broken = p.chunk(kind.encode(), ANCILLARY[kind], damaged=True)
    data = p.write(PIXELS, p.RGB, broken) if place == "before" else p.write(PIXELS, p.RGB, after=(broken,))
    np.testing.assert_array_equal(first(data), PIXELS)


@pytest.mark.parametrize("kind", ANCILLARY)
@pytest.mark.parametrize("body", [b"", b"\xff", b"\0\xff\xff", bytes(range(256)) * 4], ids=len)
def test_nonsense_in_what_holds_no_pixels_loses_no_picture(kind, body):
    assert first(p.write(PIXELS, p.RGB, p.chunk(kind.encode(), body))).shape == PIXELS.shape


@pytest.mark.parametrize("kind", ["IHDR", "PLTE"])
def test_a_wrong_checksum_of_what_holds_pixels_is_corrupt(kind):
    data = bytearray(encode(corners().convert("P"), "PNG"))
    at = data.index(kind.encode())
    data[at + 4 + int.from_bytes(data[at - 4 : at], "big")] ^= 0xFF
    assert reason_of(bytes(data)) is Reason.CORRUPT


def test_a_wrong_checksum_of_the_last_chunk_which_holds_none_loses_no_picture():
    np.testing.assert_array_equal(first(p.write(PIXELS, p.RGB)[:-1] + b"\0"), PIXELS)


def test_damaged_pixels_are_corrupt():
    data = bytearray(p.write(PIXELS, p.RGB))
    data[data.index(b"IDAT") + 20] ^= 0xFF
    assert reason_of(bytes(data)) is Reason.CORRUPT


@pytest.mark.parametrize("kind", [b"fcTL", b"fdAT"])
def test_the_chunks_of_an_animation_hold_pixels(kind):
    data = animation(3, "PNG")
    assert decode_image(data, Limits()).n_frames == 3
    with_note = data[:33] + p.chunk(b"tEXt", b"a\0b", damaged=True) + data[33:]
    assert len(list(decode_image(with_note, Limits()).frames)) == 3
    at = data.rindex(kind)
    assert reason_of(data[:at] + b"xxXx" + data[at + 4 :]) in (Reason.CORRUPT, Reason.TRUNCATED)


def test_a_header_without_its_middle_is_truncated_or_corrupt_never_shown():
    data = p.write(PIXELS, p.RGB)
    assert reason_of(data[:20]) is Reason.TRUNCATED
    assert reason_of(data[:-30]) is Reason.TRUNCATED


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"PK\3\4" + bytes(3000), b"\xff\xd8\xff\xe0" * 900], ids=len)
def test_what_is_appended_is_not_the_picture(tail):
    data = p.write(PIXELS, p.RGB)
    np.testing.assert_array_equal(first(data + tail), PIXELS)
    at = data.index(b"IDAT")
    damaged = data[: at + 12] + b"\xff" * 8 + data[at + 20 :]
    assert reason_of(damaged + tail) is Reason.CORRUPT


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_of_every_depth(depth):
    samples = np.rint(RAMP * ((1 << depth) - 1)).astype(np.uint16)
    levels = np.rint(samples / ((1 << depth) - 1) * 255)
    assert off(p.write(samples, p.GREY, depth=depth), levels[..., None]) <= 1


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_one_transparent_grey_of_every_depth(depth):
    samples = np.rint(RAMP * ((1 << depth) - 1)).astype(np.uint16)
    key = int(samples[0, 0])
    levels = np.rint(samples / ((1 << depth) - 1) * 255)
    expected = np.where(samples == key, 255, levels)
    data = p.write(samples, p.GREY, p.chunk(b"tRNS", struct.pack(">H", key)), depth=depth)
    assert off(data, expected[..., None]) <= 1


@pytest.mark.parametrize("depth", [8, 16])
def test_one_transparent_colour_of_every_depth(depth):
    samples = PIXELS.astype(np.uint16) * (257 if depth == 16 else 1)
    key = samples[0, 0]
    data = p.write(samples, p.RGB, p.chunk(b"tRNS", struct.pack(">3H", *key)), depth=depth)
    expected = np.where((samples == key).all(axis=2)[..., None], 255, PIXELS)
    assert off(data, expected) <= 1


@pytest.mark.parametrize("alphas", [b"\0", b"\x80\xff", b"\0\x80\xff\x40"], ids=len)
def test_a_palette_with_opacities(alphas):
    palette = np.array([(250, 20, 20), (20, 250, 20), (20, 20, 250), (200, 200, 60)], np.uint8)
    samples = np.tile(np.repeat(np.arange(4, dtype=np.uint8), 12), (32, 1))
    chunks = (p.chunk(b"PLTE", palette.tobytes()), p.chunk(b"tRNS", alphas))
    opacity = np.frombuffer(alphas.ljust(4, b"\xff"), np.uint8)[samples][..., None] / 255
    expected = palette[samples] * opacity + 255 * (1 - opacity)
    assert off(p.write(samples, p.PALETTE, *chunks), expected) <= 1


def test_a_palette_longer_than_its_pixels_need_and_more_opacities_than_it_has():
    samples = np.zeros((32, 48), np.uint8)
    palette = p.chunk(b"PLTE", bytes((9, 99, 199)) * 2)
    data = p.write(samples, p.PALETTE, palette, p.chunk(b"tRNS", b"\xff" * 300))
    assert (first(data) == (9, 99, 199)).all()


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("colour", [p.GREY_ALPHA, p.RGB_ALPHA])
def test_opacity_of_every_depth(colour, depth):
    most = (1 << depth) - 1
    values = RAMP[..., None] if colour == p.GREY_ALPHA else PIXELS / 255
    opacity = RAMP[::-1, ::-1][..., None]
    samples = np.rint(np.concatenate([values, opacity], -1) * most).astype(np.uint16)
    assert off(p.write(samples, colour, depth=depth), 255 * (values * opacity + 1 - opacity)) <= 2


def test_all_transparent_is_all_white_where_the_format_states_opacity():
    samples = np.concatenate([PIXELS, np.zeros((32, 48, 1), np.uint8)], -1)
    assert (first(p.write(samples, p.RGB_ALPHA)) == 255).all()


def test_an_interlaced_picture_is_the_same():
    """Adam7: pixels of seven passes, each with rows of its own."""
    passes = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]
    rows = b"".join(p.rows_of(np.ascontiguousarray(PIXELS[y::dy, x::dx]), 8) for x, y, dx, dy in passes)
    head = p.chunk(b"IHDR", struct.pack(">IIBBBBB", 48, 32, 8, p.RGB, 0, 0, 1))
    data = p.SIGNATURE + head + p.chunk(b"IDAT", zlib.compress(rows)) + p.chunk(b"IEND")
    np.testing.assert_array_equal(first(data), PIXELS)


def test_apples_own_kind_is_named():
    data = p.SIGNATURE + p.chunk(b"CgBI", bytes(4)) + p.write(PIXELS, p.RGB)[8:]
    reason, detail = refusal_of(data)
    assert reason is Reason.FORMAT_NOT_ALLOWED and "CgBI" in detail


def test_an_animation_whose_first_frame_is_smaller_shows_white_around_it():
    small = Image.new("RGBA", (16, 16), (200, 0, 0, 255))
    whole = Image.new("RGBA", (48, 32), (0, 0, 200, 255))
    data = encode(whole, "PNG", save_all=True, append_images=[small.resize((48, 32))], default_image=True)
    frames = [pixels for _, pixels in decode_image(data, Limits()).frames]
    assert frames[0][0, 0].tolist() == [0, 0, 200] and frames[-1][0, 0].tolist() == [200, 0, 0]


def test_millions_of_chunks_without_pixels_cost_no_memory():
    note = p.chunk(b"tEXt", b"")
    data = p.write(PIXELS, p.RGB, note * 300_000)
    tracemalloc.start()
    try:
        clean = clean_png(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert clean.data == p.write(PIXELS, p.RGB) and peak < len(data)
