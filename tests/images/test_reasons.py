"""Why a file cannot be read, and real files."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from bladescan.base.errors import ImageError, UsageError
from bladescan.base.records import Reason
from bladescan.images.decoding import decode_image
from bladescan.images.files import read_file
from bladescan.images.limits import MOST_BYTES, Limits
from tests.images.pictures import LIMITS, animation, corners, encode, everything, first, reason_of


def test_each_refusal_has_its_reason():
    png = encode(corners(), "PNG")
    assert reason_of(b"") is Reason.EMPTY
    assert reason_of(b"hello, world") is Reason.NOT_AN_IMAGE
    assert reason_of(png, Limits(max_bytes=10)) is Reason.TOO_MANY_BYTES
    assert reason_of(png, Limits(max_pixels=48 * 32 - 1)) is Reason.TOO_MANY_PIXELS
    assert reason_of(encode(Image.new("L", (15, 90)), "PNG")) is Reason.TOO_SMALL
    assert reason_of(png[:-40]) is Reason.TRUNCATED
    assert reason_of(png[:60] + bytes(60) + png[120:]) is Reason.CORRUPT


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_the_pixel_limit_holds_for_every_format(kind):
    assert reason_of(encode(corners(), kind), Limits(max_pixels=1000)) is Reason.TOO_MANY_PIXELS


def test_pillows_own_bomb_guard_is_our_reason():
    huge = bytearray(encode(Image.new("P", (20, 20)), "GIF"))
    huge[6:10] = b"\xff\xff\xff\xff"
    assert reason_of(bytes(huge)) is Reason.TOO_MANY_PIXELS


def test_warnings_neither_print_nor_escape(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first(encode(corners(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_every_prefix_is_an_error_or_the_full_picture(kind):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    whole = first(data)
    lengths = {*range(len(data) - 24, len(data)), *range(0, len(data), 1 + len(data) // 300)}
    for length in sorted(lengths):
        try:
            frames = everything(decode_image(data[:length], LIMITS))
        except ImageError:
            continue
        np.testing.assert_array_equal(frames[0][1], whole, err_msg=f"{length} of {len(data)} bytes")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_every_prefix_of_an_animation_is_an_error_or_all_its_frames(kind):
    data = animation(3, kind)
    for length in range(len(data)):
        try:
            frames = everything(decode_image(data[:length], LIMITS))
        except ImageError:
            continue
        assert [index for index, _ in frames] == [0, 1, 2]


def test_a_jpeg_without_its_end_mark_is_truncated():
    assert reason_of(encode(corners(), "JPEG")[:-2]) is Reason.TRUNCATED


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_flipped_bytes_raise_only_image_errors(kind):
    data = encode(corners(), kind)
    rng = random.Random(kind)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            # Half of them in the header, or a plain format would only change its colours.
            damaged[rng.randrange(rng.choice((16, len(data))))] = rng.randrange(256)
        try:
            everything(decode_image(bytes(damaged), Limits(max_pixels=1_000_000)))
            outcomes.add("read")
        except ImageError as exc:
            outcomes.add(exc.reason)
    assert len(outcomes) > 1


@pytest.fixture(scope="module")
def hostile(data_dir) -> Path:
    return data_dir / "hostile"


def test_hostile_files_raise_only_image_errors(hostile):
    outcomes = {"read": 0}
    for path in sorted(p for p in hostile.rglob("*") if p.is_file()):
        try:
            for _, pixels in decode_image(read_file(str(path), LIMITS), LIMITS).frames:
                assert pixels.ndim == 3 and pixels.shape[2] == 3
            outcomes["read"] += 1
        except ImageError as exc:
            outcomes[exc.reason.value] = outcomes.get(exc.reason.value, 0) + 1
    assert outcomes["read"] > 300 and outcomes["truncated"] > 400 and outcomes["corrupt"] > 50


def test_orientation_of_real_files_agrees_with_pillow(hostile):
    files = sorted((hostile / "pillow").glob("*orientation*"))
    assert len(files) >= 8
    for path in files:
        with Image.open(path) as image:
            image.load()
            for name in ("xmp", "XML:com.adobe.xmp"):  # from which Pillow takes what EXIF lacks
                image.info.pop(name, None)
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        pixels = first(path.read_bytes(), Limits(min_side=1))
        np.testing.assert_array_equal(pixels.shape, expected.shape, err_msg=path.name)
        # A colour profile may shift the colours, never move them.
        assert np.abs(pixels.astype(int) - expected).mean() < 20, path.name


def test_no_more_bytes_are_allowed_than_a_message_to_a_decoder_can_hold():
    assert Limits(max_bytes=MOST_BYTES).max_bytes < 2**32 - 2**20
    with pytest.raises(UsageError, match="max_bytes must be at most 4000000000, got 4000000001"):
        Limits(max_bytes=MOST_BYTES + 1)
