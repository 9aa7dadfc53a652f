"""BMPs: opacity that is none, small palettes, either direction, kinds that are not opened."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from bladescan.base.records import Reason
from tests.images.pictures import corners, encode, first, reason_of, refusal_of
from tests.images.profiles_made import ADOBE_RGB

PIXELS = np.asarray(corners())
MASKS = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)


def bmp(
    rows: bytes,
    bits: int,
    *,
    height: int = 32,
    compression: int = 0,
    palette: bytes = b"",
    colours: int = 0,
    masks: tuple[int, ...] = (),
    profile: bytes = b"",
) -> bytes:
    """A BMP; with four masks or a profile its header is that of version 5."""
    size = 124 if len(masks) == 4 or profile else 40
    start = 14 + size + len(palette) + (4 * len(masks) if size == 40 else 0)
    head = struct.pack("<IiiHHIIiiII", size, 48, height, 1, bits, compression, len(rows), 0, 0, colours, 0)
    if size == 124:
        space = struct.pack("<I", 0x4D424544 if profile else 0x73524742)
        head += struct.pack("<4I", *(masks or (0, 0, 0, 0))) + space + bytes(48)
        head += struct.pack("<4I", 4, size + len(palette) + len(rows), len(profile), 0)
    else:
        head += struct.pack(f"<{len(masks)}I", *masks)
    file = b"BM" + struct.pack("<IHHI", start + len(rows) + len(profile), 0, 0, start)
    return file + head + palette + rows + profile


def bgra(alpha: int | np.ndarray) -> bytes:
    """The rows, the lowest first."""
    pixels = np.empty((32, 48, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = PIXELS[..., ::-1], alpha
    return pixels[::-1].tobytes()


def test_opacity_of_nothing_but_zeros_is_none():
    np.testing.assert_array_equal(first(bmp(bgra(0), 32, compression=3, masks=MASKS)), PIXELS)
    np.testing.assert_array_equal(first(bmp(bgra(0), 32)), PIXELS)
    np.testing.assert_array_equal(first(bmp(bgra(0), 32, compression=3, masks=(0, 0, 0, 0))), PIXELS)


def test_opacity_that_is_some_shows_white():
    alpha = np.zeros((32, 48), np.uint8)
    alpha[:, 24:] = 255
    pixels = first(bmp(bgra(alpha), 32, compression=3, masks=MASKS))
    assert (pixels[:, :24] == 255).all()
    np.testing.assert_array_equal(pixels[:, 24:], PIXELS[:, 24:])


def test_a_fourth_byte_that_no_mask_calls_opacity_is_none():
    alpha = np.full((32, 48), 7, np.uint8)
    np.testing.assert_array_equal(first(bmp(bgra(alpha), 32)), PIXELS)
    np.testing.assert_array_equal(first(bmp(bgra(alpha), 32, compression=3, masks=MASKS[:3])), PIXELS)


def test_a_height_below_zero_means_the_highest_row_first():
    rows = np.ascontiguousarray(PIXELS[..., ::-1]).tobytes()
    np.testing.assert_array_equal(first(bmp(rows, 24, height=-32)), PIXELS)
    assert not np.array_equal(first(bmp(rows, 24)), PIXELS)


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize(
    "colours", [[(0, 0, 0), (255, 255, 255)], [(255, 255, 255), (0, 0, 0)], [(9, 99, 199), (1, 2, 3)]]
)
def test_two_colours_in_any_depth(colours, bits):
    index = (np.arange(48) // 8 % 2).astype(np.uint8)
    places = (np.tile(index, (32, 1))[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(places.reshape(32, -1).astype(np.uint8), axis=1)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()
    palette = b"".join(bytes((b, g, r, 0)) for r, g, b in colours)
    pixels = first(bmp(rows, bits, palette=palette, colours=2))
    np.testing.assert_array_equal(pixels, np.tile(np.array(colours, np.uint8)[index], (32, 1, 1)))


def test_more_colours_than_a_pixel_can_name():
    palette = b"".join(bytes((i % 256, 9, 255 - i % 256, 0)) for i in range(300))
    rows = np.tile(np.arange(48, dtype=np.uint8), (32, 1)).tobytes()
    pixels = first(bmp(rows, 8, palette=palette, colours=300))
    assert pixels[0, 5].tolist() == [250, 9, 5] and pixels[31, 47].tolist() == [208, 9, 47]


@pytest.mark.parametrize("masks", [(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)])
def test_sixteen_bits(masks):
    shifts = [(mask & -mask).bit_length() - 1 for mask in masks]
    most = [mask >> shift for mask, shift in zip(masks, shifts, strict=True)]
    values = sum(np.rint(PIXELS[..., i] / 255 * most[i]).astype(np.uint16) << shifts[i] for i in range(3))
    pixels = first(bmp(values[::-1].astype("<u2").tobytes(), 16, compression=3, masks=masks))
    assert np.abs(pixels.astype(int) - PIXELS).max() <= 8


NOT_OPENED = {
    "bit-fields-of-ten": bmp(bgra(0), 32, compression=3, masks=(0x3FF00000, 0xFFC00, 0x3FF)),
    "a-jpeg-inside": bmp(encode(corners(), "JPEG"), 0, compression=4),
    "a-png-inside": bmp(encode(corners(), "PNG"), 0, compression=5),
    "os2-with-a-short-header": b"BM"
    + struct.pack("<IHHI", 2000, 0, 0, 30)
    + struct.pack("<IIIHH", 16, 48, 32, 1, 24),
}


@pytest.mark.parametrize("name", NOT_OPENED)
def test_a_kind_that_is_not_opened_is_named_and_not_called_corrupt(name):
    reason, detail = refusal_of(NOT_OPENED[name] + bytes(5000))
    assert reason is Reason.FORMAT_NOT_ALLOWED and detail.startswith("BMP ")


def test_bit_fields_that_overlap_are_corrupt():
    assert reason_of(bmp(bgra(0), 32, compression=3, masks=(0xFF, 0xFF, 0xFF))) is Reason.CORRUPT


def test_missing_rows_are_truncated():
    assert reason_of(bmp(bgra(0), 32)[:-400]) is Reason.TRUNCATED


def test_what_is_appended_is_not_the_picture():
    np.testing.assert_array_equal(first(bmp(bgra(0), 32) + b"\xff" * 9999), PIXELS)


def test_its_profile_is_applied():
    rows = np.full((32, 48, 3), (60, 90, 200)).astype(np.uint8).tobytes()
    plain, shown = first(bmp(rows, 24))[0, 0], first(bmp(rows, 24, profile=ADOBE_RGB))[0, 0]
    assert plain.tolist() == [200, 90, 60] and int(shown[0]) > 215
