"""Modes and colours of pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms

from bladescan.images.decoding import decode_image
from tests.images.pictures import LIMITS, animation, corners, encode, first


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "LAB", "YCbCr", "LA", "RGBA"])
def test_every_mode_becomes_rgb(mode):
    kind = "PNG" if mode in ("1", "L", "P", "RGB", "LA", "RGBA") else "TIFF"
    source = (
        corners()
        if mode != "LAB"
        else ImageCms.profileToProfile(
            corners(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    )
    source = source if mode == "LAB" else source.convert(mode)
    shown = source if mode not in ("LA", "RGBA") else source.convert(mode.removesuffix("A"))
    expected = np.asarray(shown.convert("RGB"))
    pixels = first(encode(source, kind))
    assert np.abs(pixels.astype(int) - expected).max() <= 12


def test_adobe_inverted_cmyk_jpeg_is_not_a_negative():
    pixels = first(encode(Image.new("RGB", (32, 32), (230, 120, 90)).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(pixels.astype(int) - (230, 120, 90)).max() < 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind):
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (32, 1))
    pixels = first(encode(Image.fromarray(ramp), kind))
    np.testing.assert_array_equal(pixels[..., 0], np.rint(ramp / 257).astype(np.uint8))
    assert (pixels[..., 0] == pixels[..., 2]).all()


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 255.0), (0.0, 65535.0), (-3.0, 9e6)])
def test_float_grey_spans_black_to_white(low, high):
    ramp = np.tile(np.linspace(low, high, 64, dtype=np.float32), (32, 1))
    ramp[5, 5] = np.nan
    pixels = first(encode(Image.fromarray(ramp), "TIFF"))[0, :, 0]
    assert pixels[0] == 0 and pixels[-1] == 255 and (np.diff(pixels.astype(int)) >= 0).all()
    assert abs(int(pixels[32]) - 255 * 32 / 63) <= 1


def test_flat_float_grey_is_read():
    assert first(encode(Image.fromarray(np.full((20, 20), -7.0, np.float32)), "TIFF")).shape == (20, 20, 3)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_transparent_pixels_show_white(kind):
    image = Image.new("RGBA", (20, 20), (200, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 10, 20))
    pixels = first(encode(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    np.testing.assert_array_equal(pixels[:, :10], 255)
    np.testing.assert_array_equal(pixels[0, 15], (200, 0, 0))


def test_half_transparent_is_blended_with_white():
    pixels = first(encode(Image.new("RGBA", (20, 20), (0, 0, 0, 128)), "PNG"))
    assert abs(int(pixels[0, 0, 0]) - (255 - 128)) <= 1


def test_an_srgb_profile_and_a_broken_one_change_nothing():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile", srgb[:200]):
        pixels = first(encode(corners(), "PNG", icc_profile=profile))
        np.testing.assert_array_equal(pixels, np.asarray(corners()))


def test_a_profile_of_another_colour_space_is_left_alone():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    np.testing.assert_array_equal(first(encode(corners(), "PNG", icc_profile=lab)), np.asarray(corners()))


def test_a_wide_gamut_profile_is_applied(data_dir):
    for path in sorted((data_dir / "photographs").rglob("*.jpg")):
        with Image.open(path) as image:
            profile = image.info.get("icc_profile", b"")
            if b"Adobe RGB" in profile and image.mode == "RGB" and min(image.size) >= 16:
                plain = np.asarray(image)
                assert np.abs(first(encode(image, "PNG", icc_profile=profile)).astype(int) - plain).max() > 0
                return
    pytest.fail("no photograph with an Adobe RGB profile")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_pictures_that_are_kept_do_not_turn_into_later_frames(kind):
    data = animation(5, kind)
    kept = [np.asarray(picture) for _, picture in list(decode_image(data, LIMITS).pictures)]
    one_by_one = [pixels.copy() for _, pixels in decode_image(data, LIMITS).frames]
    np.testing.assert_array_equal(kept, one_by_one)
    assert len({pixels.tobytes() for pixels in kept}) == 5


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "F"])
def test_pictures_are_loaded_rgb_whatever_the_mode_of_the_file(mode):
    data = encode(
        corners().convert("L").convert(mode) if mode in ("F", "I;16") else corners().convert(mode), "TIFF"
    )
    ((_, picture),) = decode_image(data, LIMITS).pictures
    assert (picture.mode, picture.size) == ("RGB", (48, 32))
    np.testing.assert_array_equal(picture, first(data))
