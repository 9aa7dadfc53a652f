"""TIFFs of every layout of samples: shown as they are meant, or refused by name; never shown wrongly."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bladescan.base.records import Reason
from bladescan.images.decoding import decode_image
from bladescan.images.limits import Limits
from tests.images import tiff_files as t
from tests.images.pictures import encode, everything, first, off, ramp, reason_of, refusal_of

RAMP = ramp()
COLOURS = np.stack([RAMP, 1 - RAMP, RAMP**2], -1)
OPACITY = np.where(np.arange(48) < 24, 1.0, 0.5)[None, :] * np.ones((32, 1))
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5
STORED = [
    pytest.param({"order": order, "deflate": deflate, "strip_rows": rows}, id=f"{name}-{how}-{rows or 'all'}")
    for order, name in (("<", "II"), (">", "MM"))
    for deflate, how in ((False, "plain"), (True, "deflate"))
    for rows in (None, 7)
]


def whole(values: np.ndarray, bits: int) -> np.ndarray:
    return np.rint(values * ((1 << bits) - 1)).astype(
        np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    )


def on_white(values: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    return 255 * (values * opacity[..., None] + 1 - opacity[..., None])


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16, 32])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_grey_of_every_depth_and_either_sense(photometric, bits, stored):
    samples = whole(RAMP, bits)
    levels = np.rint(samples / ((1 << bits) - 1) * 255)[..., None]
    expected = 255 - levels if photometric == WHITE_IS_ZERO else levels
    assert off(t.picture(samples, photometric, bits=bits, **stored), expected) <= 1


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.float16, np.float32, np.float64], ids=str)
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_signed_and_float_grey(photometric, kind, stored):
    if np.issubdtype(kind, np.integer):
        limits = np.iinfo(kind)
        samples = (limits.min + RAMP * (float(limits.max) - limits.min)).astype(kind)
    else:
        samples = RAMP.astype(kind)
    expected = 255 * (1 - RAMP if photometric == WHITE_IS_ZERO else RAMP)[..., None]
    assert off(t.picture(samples, photometric, **stored), expected) <= 1.5


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("planar", [False, True], ids=["together", "planes"])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_colour_together_and_in_planes(bits, planar, stored):
    assert off(t.picture(whole(COLOURS, bits), RGB, planar=planar, **stored), 255 * COLOURS) <= 1.5


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("planar", [False, True], ids=["together", "planes"])
def test_float_colour(planar, stored):
    assert off(t.picture(COLOURS.astype(np.float32), RGB, planar=planar, **stored), 255 * COLOURS) <= 1


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("planar", [False, True], ids=["together", "planes"])
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("meaning", ["unspecified", "associated", "unassociated", "unsaid"])
def test_a_fourth_sample_of_colour_is_what_the_file_says(meaning, bits, planar, stored):
    colours = COLOURS * OPACITY[..., None] if meaning == "associated" else COLOURS
    samples = whole(np.concatenate([colours, OPACITY[..., None]], -1), bits)
    said = {"unspecified": 0, "associated": 1, "unassociated": 2}
    more = [t.Field(t.EXTRA, t.SHORT, [said[meaning]])] if meaning in said else []
    expected = 255 * COLOURS if meaning == "unspecified" else on_white(COLOURS, OPACITY)
    assert off(t.picture(samples, RGB, planar=planar, more=more, **stored), expected) <= 2


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("planar", [False, True], ids=["together", "planes"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("meaning", [0, 1, 2])
def test_a_second_sample_of_grey_is_what_the_file_says(meaning, bits, planar, stored):
    grey = RAMP * OPACITY if meaning == 1 else RAMP
    data = t.picture(
        whole(np.stack([grey, OPACITY], -1), bits),
        BLACK_IS_ZERO,
        planar=planar,
        more=[t.Field(t.EXTRA, t.SHORT, [meaning])],
        **stored,
    )
    expected = 255 * RAMP[..., None] if meaning == 0 else on_white(RAMP[..., None], OPACITY)
    assert off(data, expected) <= 2


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("planar", [False, True], ids=["together", "planes"])
@pytest.mark.parametrize("bits", [8, 16])
def test_cmyk_is_not_a_negative(bits, planar, stored):
    inks = np.concatenate([1 - COLOURS, np.zeros((32, 48, 1))], -1)
    assert off(t.picture(whole(inks, bits), CMYK, planar=planar, **stored), 255 * COLOURS) <= 1.5


def test_a_fourth_sample_of_zeros_that_nothing_calls_opacity_is_none():
    samples = np.concatenate([whole(COLOURS, 8), np.zeros((32, 48, 1), np.uint8)], -1)
    assert off(t.picture(samples, RGB), 255 * COLOURS) <= 1
    stated = t.picture(samples, RGB, more=[t.Field(t.EXTRA, t.SHORT, [2])])
    assert (first(stated) == 255).all()


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "zstd", "lzma", "tiff_adobe_deflate"])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_other_compressions_of_deep_grey(photometric, compression):
    """Pillow compresses; what the numbers mean is changed behind its back."""
    samples = whole(RAMP, 16)
    try:
        data = bytearray(encode(Image.fromarray(samples), "TIFF", compression=compression))
    except OSError:
        pytest.skip(f"this Pillow's libtiff was built without {compression}")
    at = data.index(b"\x06\x01\x03\0\1\0\0\0", int.from_bytes(data[4:8], "little"))
    data[at + 8] = photometric
    expected = 255 * (1 - RAMP if photometric == WHITE_IS_ZERO else RAMP)[..., None]
    assert off(bytes(data), expected) <= 1


def with_predictor(samples: np.ndarray, predictor: int) -> bytes:
    """A TIFF compressed with deflate, of differences between neighbours."""
    if predictor == 2:
        stored = np.diff(samples, axis=1, prepend=samples.dtype.type(0))
    else:  # the highest bytes of a row first, and then their differences
        order = samples.astype(">f4").view(np.uint8).reshape(*samples.shape, 4).transpose(0, 2, 1)
        flat = order.reshape(len(samples), -1)
        stored = np.diff(flat, axis=1, prepend=np.uint8(0)).view(np.float32).reshape(samples.shape)
    more = [t.Field(t.PREDICTOR, t.SHORT, [predictor])]
    return t.picture(stored, WHITE_IS_ZERO, deflate=True, more=more)


def test_differences_between_neighbours_are_summed():
    assert off(with_predictor(whole(RAMP, 16), 2), 255 * (1 - RAMP)[..., None]) <= 1
    assert off(with_predictor(RAMP.astype(np.float32), 3), 255 * (1 - RAMP)[..., None]) <= 1


def tiled(samples: np.ndarray, side: int, *, order: str = "<") -> bytes:
    """A TIFF in tiles, of which the last of a row and the last row reach past the picture."""
    height, width = samples.shape
    padded = np.pad(samples, ((0, -height % side), (0, -width % side)))
    tiles = [
        padded[y : y + side, x : x + side].astype(padded.dtype.newbyteorder(order)).tobytes()
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]
    page = t.page_of(samples, WHITE_IS_ZERO, order=order)
    plain = [f for f in page.fields if f.tag != t.ROWS]
    body, at = b"".join(tiles), 8
    fields = [
        *plain,
        t.Field(322, t.SHORT, [side]),
        t.Field(323, t.SHORT, [side]),
        t.Field(324, t.LONG, [at + i * len(tiles[0]) for i in range(len(tiles))]),
        t.Field(325, t.LONG, [len(tile) for tile in tiles]),
    ]
    return t.write(t.Directory(tuple(fields)), order=order, head=body)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiles_that_reach_past_the_picture(order):
    assert off(tiled(whole(RAMP, 16), 32, order=order), 255 * (1 - RAMP)[..., None]) <= 1


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg"])
def test_ycbcr_with_half_the_colour(compression):
    flat = Image.new("RGB", (48, 32), (200, 90, 60))
    data = encode(flat.convert("YCbCr"), "TIFF", compression=compression)
    assert off(data, np.asarray(flat)) <= 4


def test_uncompressed_ycbcr_that_shares_colour_among_four_pixels():
    y, cb, cr = (int(v) for v in np.asarray(Image.new("RGB", (1, 1), (200, 90, 60)).convert("YCbCr"))[0, 0])
    block = bytes([y] * 4 + [cb, cr])  # units of 2 x 2 pixels
    fields = (
        t.Field(t.WIDTH, t.SHORT, [48]),
        t.Field(t.HEIGHT, t.SHORT, [32]),
        t.Field(t.BITS, t.SHORT, [8, 8, 8]),
        t.Field(t.COMPRESSION, t.SHORT, [1]),
        t.Field(t.PHOTOMETRIC, t.SHORT, [6]),
        t.Field(t.SAMPLES, t.SHORT, [3]),
        t.Field(t.ROWS, t.SHORT, [32]),
        t.Field(530, t.SHORT, [2, 2]),
    )
    data = t.write(t.Directory(fields, [block * (24 * 16)]))
    assert off(data, np.full((32, 48, 3), (200, 90, 60))) <= 4


def test_lab_is_signed():
    lab = np.full((32, 48, 3), (153, 40, 236), np.uint8)  # L 60, a 40, b -20
    pixels = first(t.picture(lab, 8))[0, 0].astype(int)
    assert np.abs(pixels - (199, 116, 181)).max() <= 3


def test_a_palette_of_sixteen_bits_is_read():
    colours = [0, 65535, 0, 65535, 0, 0]  # red, green, blue, each of two entries
    samples = np.tile(np.repeat([0, 1], 24).astype(np.uint8), (32, 1))
    palette = [0] * 768
    palette[0:2], palette[256:258], palette[512:514] = colours[0:2], colours[2:4], colours[4:6]
    pixels = first(t.picture(samples, 3, more=[t.Field(320, t.SHORT, palette)]))
    assert pixels[0, 0].tolist() == [0, 0, 0] and pixels[0, 47].tolist() == [255, 255, 0]


REFUSED = {
    "rgb-of-24-bits": t.picture(np.zeros((20, 20, 3), np.uint32), RGB, bits=24),
    "lab-of-16-bits": t.picture(np.zeros((20, 20, 3), np.uint16), 8),
    "icc-lab": t.picture(np.zeros((20, 20, 3), np.uint8), 9),
    "inks-other-than-cmyk": t.picture(
        np.zeros((20, 20, 4), np.uint8), CMYK, more=[t.Field(332, t.SHORT, [2])]
    ),
    "jpeg-2000-inside": t.picture(
        np.zeros((20, 20, 3), np.uint8), RGB, more=[t.Field(t.COMPRESSION, t.SHORT, [34712])]
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_layout_that_is_not_read_is_named_and_not_called_corrupt(name):
    reason, detail = refusal_of(REFUSED[name])
    assert reason is Reason.FORMAT_NOT_ALLOWED and detail.startswith("TIFF of ")


def test_each_page_is_read_by_its_own_layout():
    pages = [
        t.page_of(whole(RAMP, 16), WHITE_IS_ZERO),
        t.page_of(whole(COLOURS, 8), RGB),
        t.page_of(whole(RAMP, 16), WHITE_IS_ZERO),
        t.page_of(whole(RAMP, 16)[:20, :30], BLACK_IS_ZERO),
    ]
    shown = [pixels for _, pixels in everything(decode_image(t.write(*pages), Limits()))]
    expected = [
        255 * (1 - RAMP)[..., None],
        255 * COLOURS,
        255 * (1 - RAMP)[..., None],
        255 * RAMP[:20, :30, None],
    ]
    assert [np.abs(a - b).max() <= 1.5 for a, b in zip(shown, expected, strict=True)] == [True] * 4


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_pixels_that_lie_past_the_end_are_truncated(photometric, deflate):
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64), np.uint16)
    page = t.page_of(noise, photometric, deflate=deflate)
    shifted = first_directory_before_its_pixels(page)
    assert first(shifted).shape == (64, 64, 3)
    assert reason_of(shifted[:-500]) is Reason.TRUNCATED


def first_directory_before_its_pixels(page: t.Directory) -> bytes:
    """The pixels last, so that a cut takes nothing else."""
    strip = page.pixels[0]
    length = len(
        t.write(
            t.Directory((*page.fields, t.Field(t.STRIPS, t.LONG, [0]), t.Field(t.STRIP_BYTES, t.LONG, [0])))
        )
    )
    fields = (*page.fields, t.Field(t.STRIPS, t.LONG, [length]), t.Field(t.STRIP_BYTES, t.LONG, [len(strip)]))
    return t.write(t.Directory(fields)) + strip


def test_damaged_deflate_data_is_corrupt():
    data = bytearray(t.picture(whole(RAMP, 16), WHITE_IS_ZERO, deflate=True))
    data[8:20] = bytes(12)
    assert reason_of(bytes(data)) is Reason.CORRUPT


def test_pillow_keeps_its_own_reader():
    with Image.open(io.BytesIO(t.picture(whole(RAMP, 8), BLACK_IS_ZERO))) as image:
        assert type(image).__module__ == "PIL.TiffImagePlugin"
