from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bladescan.base.records import ROTATIONS, FaceBox
from bladescan.detectors.manifest import FaceRule
from bladescan.faces.crops import crop_face, crop_square, whole_crop
from bladescan.faces.pictures import turned_box, upright


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_crop_square_of_a_face_well_inside_is_centred_with_side_1_3_times_the_longer_side():
    square = crop_square(FaceBox(400, 300, 480, 400, 1.0), 1000, 1000)
    assert square == pytest.approx((440 - 65, 350 - 65, 440 + 65, 350 + 65))


def test_crop_square_at_the_border_keeps_its_side_and_moves_inside():
    square = crop_square(FaceBox(-20, 930, 80, 1010, 1.0), 1000, 1000)
    assert square == pytest.approx((0, 870, 130, 1000))


def test_crop_square_larger_than_the_image_becomes_its_largest_square_nearest_the_face():
    assert crop_square(FaceBox(100, 0, 300, 200, 1.0), 400, 200) == pytest.approx((100, 0, 300, 200))


@given(
    st.tuples(*[st.floats(-500, 3000)] * 2),
    st.tuples(*[st.floats(0, 3000)] * 2),
    st.integers(1, 2500),
    st.integers(1, 2500),
)
def test_crop_square_is_a_square_inside_the_image(corner, sides, width, height):
    box = FaceBox(*corner, corner[0] + sides[0], corner[1] + sides[1], 0.9)
    x0, y0, x1, y1 = crop_square(box, width, height)
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    assert x1 - x0 == pytest.approx(y1 - y0, abs=1e-6)
    assert x1 - x0 <= max(1.0, 1.3 * box.side) + 1e-6


def test_crop_of_a_square_of_224_pixels_is_those_pixels():
    image = _noise(400, 500)
    crop = crop_face(image, FaceBox(100, 50, 324, 274, 1.0), FaceRule(scale=1.0))
    assert np.array_equal(crop, image[50:274, 100:324])


@pytest.mark.parametrize("corner", [(0, 0), (200, 150), (560, 300)])
def test_crop_stretches_neither_direction_wherever_the_face_stands(corner):
    """Ramps of one grey level per 4 pixels must rise equally across and down the crop."""
    across, down = np.meshgrid(np.arange(640) / 4, np.arange(400) / 4)
    image = np.stack([across, down, across], axis=-1).astype(np.uint8)
    box = FaceBox(corner[0], corner[1], corner[0] + 80, corner[1] + 100, 1.0)
    crop = crop_face(image, box).astype(float)
    rise_x, rise_y = np.ptp(crop[112, :, 0]), np.ptp(crop[:, 112, 1])
    assert rise_x == pytest.approx(130 / 4, abs=1.1) and rise_y == pytest.approx(130 / 4, abs=1.1)


def test_crop_shrinks_with_an_antialiasing_filter():
    """Stripes one pixel wide average to mid-grey; sampling single pixels would keep them."""
    stripes = np.zeros((2240, 2240, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(crop_face(stripes, FaceBox(400, 400, 1800, 1800, 1.0)).astype(int) - 127).max() <= 16


@pytest.mark.parametrize("rule", [FaceRule(), FaceRule(resize="bilinear")])
@pytest.mark.parametrize("rotation", ROTATIONS)
def test_the_crop_of_a_turned_face_is_that_of_the_upright_picture(rotation, rule):
    straight, box = _noise(300, 420), FaceBox(280.5, 20.25, 400.5, 220.25, 0.9)
    lying = np.ascontiguousarray(upright(straight, -rotation % 360))
    turned = turned_box(box, (lying.shape[1], lying.shape[0]), rotation)
    for image in (lying, Image.fromarray(lying)):
        np.testing.assert_array_equal(crop_face(image, turned, rule), crop_face(straight, box, rule))


@pytest.mark.parametrize("shape", [(1, 1), (1, 10000), (20, 20), (3000, 4000)])
def test_crops_of_any_image_are_uint8_224_square(shape):
    image = _noise(*shape)
    for crop in (whole_crop(image), crop_face(image, FaceBox(-5, -5, 9, 9, 0.9))):
        assert crop.shape == (224, 224, 3) and crop.dtype == np.uint8


@pytest.mark.parametrize(("height", "width"), [(178, 178), (1024, 768), (90, 300), (224, 224), (1, 5)])
def test_without_antialiasing_a_crop_is_what_torch_interpolates_rounded(height, width):
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255
    resized = torch.nn.functional.interpolate(pixels, (224, 224), mode="bilinear", antialias=False)
    want = 255 * resized[0].permute(1, 2, 0).numpy()
    assert np.abs(whole_crop(image, FaceRule(resize="bilinear")) - want).max() <= 0.5 + 1e-4


@given(
    st.tuples(*[st.floats(-50, 350)] * 2),
    st.tuples(*[st.floats(0, 400)] * 2),
    st.sampled_from(("antialias", "bilinear")),
)
def test_a_crop_is_the_same_from_a_picture_as_from_an_array(corner, sides, resize):
    image = _noise(240, 330)
    box = FaceBox(*corner, corner[0] + sides[0], corner[1] + sides[1], 0.9)
    crops = [crop_face(form, box, FaceRule(resize=resize)) for form in (image, Image.fromarray(image))]
    assert np.array_equal(*crops)


def test_without_antialiasing_a_crop_of_224_pixels_is_those_pixels():
    image = np.random.default_rng(5).integers(0, 256, (400, 500, 3), np.uint8)
    crop = crop_face(image, FaceBox(100, 50, 324, 274, 1.0), FaceRule(scale=1.0, resize="bilinear"))
    assert np.array_equal(crop, image[50:274, 100:324])


@pytest.mark.parametrize("corner", [(-20, -20), (30.3, 41.7), (290, 190)])
def test_both_ways_to_resize_cut_the_same_square(corner):
    ramp = np.add.outer(np.arange(300), np.arange(400))[:, :, None].repeat(3, 2) // 4
    box = FaceBox(*corner, corner[0] + 90, corner[1] + 90, 1.0)
    smooth, sharp = (
        crop_face(ramp.astype(np.uint8), box, FaceRule(resize=way)) for way in ("antialias", "bilinear")
    )
    assert np.abs(smooth.astype(int) - sharp).max() <= 1
