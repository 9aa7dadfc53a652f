"""What is cut out of a picture: a face with its context, or a patch with texture."""

import cv2
import numpy as np
import pytest

from bladescan.base.records import FaceBox
from bladescan.faces.pictures import turned_box, upright
from bladescan.photographs.cutting import (
    BLOCK,
    CONTEXT,
    MAX_STORED_SIDE,
    PATCH_SIDE,
    UnusableError,
    cut_face,
    cut_patch,
    flat_share,
    square,
    textured_blocks,
    whole_face,
)
from bladescan.photographs.photograph import Photograph

MARKS = np.array([[45, 55], [75, 55], [60, 72], [48, 88], [72, 88]], np.float32)


class KnownFace:
    """Finds one face, where it was told, and a smaller one that is surer."""

    name = "known"

    def __init__(self, box=(150.0, 120.0, 250.0, 240.0)):
        self.box = box

    def find(self, image):
        x0, y0, x1, y1 = self.box
        points = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
        landmarks = tuple((x0 + u * (x1 - x0), y0 + v * (y1 - y0)) for u, v in points)
        return [FaceBox(0, 0, 20, 20, 0.99, landmarks), FaceBox(x0, y0, x1, y1, 0.9, landmarks)]


def grain(seed=0, width=400, height=360, low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, (height, width, 3)).astype(np.uint8)


def face(seed=0, **changes):
    return Photograph(grain(seed, 120, 130), (25.0, 25.0, 95.0, 100.0), MARKS, **changes)


def test_the_largest_face_is_cut_out_of_the_photographs_own_pixels():
    whole = grain()
    cut = cut_face(whole, KnownFace())
    assert abs(cut.pixels.shape[0] - CONTEXT * 120) <= 1
    x0, y0, x1, y1 = cut.box
    assert (x1 - x0, y1 - y0) == (100, 120)
    top, left = round(120 - y0), round(150 - x0)
    h, w = cut.pixels.shape[:2]
    assert np.array_equal(cut.pixels, whole[top : top + h, left : left + w])
    np.testing.assert_allclose(cut.landmarks[0], (x0 + 30, y0 + 48), atol=1e-3)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_face_is_cut_out_upright(rotation):
    whole = grain()
    lying = upright(whole, 360 - rotation)

    class Lying(KnownFace):
        def find(self, image):
            size = (image.shape[1], image.shape[0])
            return [turned_box(box, size, rotation) for box in super().find(whole)]

    turned, straight = cut_face(lying, Lying()), cut_face(whole, KnownFace())
    assert np.array_equal(turned.pixels, straight.pixels)
    np.testing.assert_allclose(turned.box, straight.box)
    np.testing.assert_allclose(turned.landmarks, straight.landmarks, atol=1e-4)


def test_a_large_face_is_stored_smaller_with_box_and_landmarks_in_step():
    cut = cut_face(grain(0, 1400, 1300), KnownFace((300.0, 200.0, 900.0, 800.0)))
    assert max(cut.pixels.shape) == MAX_STORED_SIDE
    x0, y0, x1, y1 = cut.box
    assert x1 - x0 == pytest.approx(MAX_STORED_SIDE / CONTEXT, abs=1)
    np.testing.assert_allclose(cut.landmarks[2], ((x0 + x1) / 2, y0 + 0.6 * (y1 - y0)), atol=0.01)


@pytest.mark.parametrize(
    ("image", "box", "reason"),
    [
        (grain(), (10.0, 10.0, 50.0, 50.0), "face-too-small"),
        (np.full((360, 400, 3), 90, np.uint8), (150.0, 120.0, 250.0, 240.0), "drawing"),
    ],
)
def test_a_face_that_cannot_be_used_has_a_reason(image, box, reason):
    with pytest.raises(UnusableError, match=f"^{reason}$"):
        cut_face(image, KnownFace(box))


def test_noise_without_a_face_has_no_landmarks():
    with pytest.raises(UnusableError, match="^no-landmarks$"):
        whole_face(grain(0, 128, 128), FaceBox(20.0, 20.0, 100.0, 100.0, 1.0))


def test_a_picture_that_is_a_face_is_kept_whole():
    found = KnownFace((30.0, 30.0, 80.0, 90.0)).find(None)[1]
    kept = whole_face(grain(0, 128, 128), found)
    assert np.array_equal(kept.pixels, grain(0, 128, 128))
    assert kept.box == (30.0, 30.0, 80.0, 90.0)
    with pytest.raises(UnusableError, match="^face-too-small$"):
        whole_face(grain(0, 64, 64), found)
    assert max(whole_face(grain(0, 1000, 1000), found).pixels.shape) < 128


def test_a_patch_is_the_part_with_texture_at_its_own_resolution():
    sky = np.full((1200, 1600, 3), 200, np.uint8)
    sky[640:1152, 800:1312] = grain(0, 512, 512)
    assert np.array_equal(cut_patch(sky).pixels, sky[640:1152, 800:1312])


def test_a_patch_of_a_small_picture_is_as_large_as_its_whole_blocks():
    image = grain(0, 300, 270)
    patch = cut_patch(image)
    assert np.array_equal(patch.pixels, image[: 270 // BLOCK * BLOCK, : 300 // BLOCK * BLOCK])
    assert max(cut_patch(grain(0, 2000, 700)).pixels.shape) == PATCH_SIDE


@pytest.mark.parametrize("image", [np.zeros((600, 600, 3), np.uint8), grain(0, 600, 600, 100, 103)])
def test_a_picture_without_texture_gives_no_patch(image):
    with pytest.raises(UnusableError, match="^flat$"):
        cut_patch(image)


def test_texture_of_blocks_agrees_with_a_naive_loop():
    rng = np.random.default_rng(0)
    image = rng.normal(128, rng.uniform(0, 6, (5, 7)).repeat(16, 0).repeat(16, 1))
    image = np.pad(image, ((0, 9), (0, 3)))[..., None].repeat(3, 2).astype(np.uint8)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    expected = [
        [grey[16 * i : 16 * i + 16, 16 * j : 16 * j + 16].std() > 2.5 for j in range(7)] for i in range(5)
    ]
    assert np.array_equal(textured_blocks(image), expected)
    assert 0 < np.mean(expected) < 1


def test_flat_colour_is_flat_and_grain_is_not():
    box = (10.0, 10.0, 110.0, 110.0)
    assert flat_share(np.full((120, 120, 3), 90, np.uint8), box) == 1
    assert flat_share(grain(0, 120, 120, 80, 100), box) < 0.1


def test_a_square_is_clipped_to_the_image_and_never_empty():
    image = np.zeros((50, 80, 3), np.uint8)
    assert square(image, (10, 10, 30, 30), 1.0).shape == (20, 20, 3)
    assert square(image, (-20, -20, 30, 30), 1.3).shape[:2] < (65, 65)
    assert square(image, (40, 40, 79, 49), 30.0).shape == image.shape
