"""First frames of animations, and transparency in GIF and WebP."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from bladescan.base.records import Reason
from bladescan.images.decoding import decode_image
from bladescan.images.limits import Limits
from tests.images.pictures import animation, corners, encode, first, reason_of

RED, BLUE = (200, 0, 0), (0, 0, 200)


def gif(*frames: tuple[int, int, int, int, int, bool], background: int = 1, side: int = 32) -> bytes:
    """A GIF of flat frames: left, top, side, colour, disposal, whether colour 0 is transparent."""
    palette = bytes((255, 0, 255, *BLUE, *RED, 0, 200, 0))
    out = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x91, background, 0) + palette
    for left, top, size, colour, disposal, transparent in frames:
        out += b"\x21\xf9\x04" + bytes((disposal << 2 | transparent, 0, 0, 0, 0))
        out += b"\x2c" + struct.pack("<4HB", left, top, size, size, 0) + lzw(bytes((colour,)) * size * size)
    return out + b"\x3b"


def lzw(indices: bytes) -> bytes:
    """The indices, uncompressed: a clear code before every second, so that codes stay three bits wide."""
    bits, n = 0, 0
    for i, index in enumerate(indices):
        for code in (*((4,) if i % 2 == 0 else ()), index):
            bits |= code << n
            n += 3
    bits |= 5 << n
    body = bits.to_bytes((n + 3 + 7) // 8, "little")
    blocks = (body[i : i + 255] for i in range(0, len(body), 255))
    return b"\x02" + b"".join(bytes((len(block),)) + block for block in blocks) + b"\0"


def frames_of(data: bytes) -> list[np.ndarray]:
    return [pixels for _, pixels in decode_image(data, Limits()).frames]


def test_a_first_frame_smaller_than_the_screen_shows_white_around_it():
    pixels = first(gif((8, 8, 16, 2, 0, True)))
    assert pixels[16, 16].tolist() == list(RED)
    assert pixels[0, 0].tolist() == [255, 255, 255]


def test_a_first_frame_that_is_to_be_removed_is_still_shown_first():
    for disposal in (1, 2, 3):
        shown = frames_of(gif((0, 0, 32, 2, disposal, False), (0, 0, 32, 3, disposal, False)))
        assert [frame[5, 5].tolist() for frame in shown] == [list(RED), [0, 200, 0]]


def test_what_a_frame_leaves_behind():
    first_frame, second = (0, 0, 32, 2, 1, True), (8, 8, 16, 3, 1, True)
    assert frames_of(gif(first_frame, second))[1][0, 0].tolist() == list(RED)
    removed = frames_of(gif((0, 0, 32, 2, 2, True), second))[1]
    assert removed[0, 0].tolist() == [255, 255, 255] and removed[16, 16].tolist() == [0, 200, 0]


def test_a_transparent_colour_of_the_first_frame_is_white():
    assert (first(gif((0, 0, 32, 0, 0, True))) == 255).all()
    assert first(gif((0, 0, 32, 0, 0, False)))[3, 3].tolist() == [255, 0, 255]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_what_is_appended_is_no_frame(kind):
    data = animation(3, kind)
    for tail in (bytes(2000), b"PK\3\4" + bytes(900), data):
        shown = frames_of(data + tail)
        assert len(shown) == 3 and np.array_equal(shown[0], first(data))


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_with_opacity_is_blended_with_white(lossless):
    picture = corners().convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    opacity = np.asarray(picture)[..., 3:] / 255
    expected = np.asarray(picture)[..., :3] * opacity + 255 * (1 - opacity)
    pixels = first(encode(picture, "WEBP", lossless=lossless, quality=95, exact=True)).astype(float)
    assert np.abs(pixels[4::8, 4::8] - expected[4::8, 4::8]).max() <= (1 if lossless else 40)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_frame_of_an_animation_is_the_first(kind):
    still = [Image.new("RGB", (32, 32), RED), Image.new("RGB", (32, 32), BLUE)]
    data = encode(still[0], kind, save_all=True, append_images=still[1:], duration=100)
    assert np.abs(first(data)[5, 5].astype(int) - RED).max() <= 12
    assert reason_of(data[: len(data) // 2]) is Reason.TRUNCATED
