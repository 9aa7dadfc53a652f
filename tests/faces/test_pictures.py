from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bladescan.base.records import ROTATIONS, FaceBox
from bladescan.faces.pictures import image_size, turned_box, upright, upright_box, upright_size

POINTS = ((3.0, 2.0), (5.0, 2.0), (4.0, 3.0), (3.0, 4.0), (5.0, 4.0))
BOX = FaceBox(2.0, 1.0, 6.0, 5.0, 0.9, POINTS)


def _marked(box: FaceBox) -> np.ndarray:
    """A picture of 12 x 8 pixels in which a box is white."""
    image = np.zeros((8, 12, 3), np.uint8)
    image[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = 255
    return image


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_picture_and_its_array_turn_alike(rotation):
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    picture = upright(Image.fromarray(image), rotation)
    np.testing.assert_array_equal(np.asarray(picture), upright(image, rotation))
    assert image_size(picture) == upright_size((12, 8), rotation)


def test_a_picture_turned_clockwise_is_turned_back_anticlockwise():
    """The upper left pixel of an upright picture is at the upper right once it is turned by 90 degrees."""
    turned = np.zeros((8, 12, 3), np.uint8)
    turned[0, -1] = 255
    assert upright(turned, 90)[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_box_lies_where_the_turned_picture_shows_it(rotation):
    there = upright_box(BOX, (12, 8), rotation)
    white = np.argwhere(upright(_marked(BOX), rotation)[:, :, 0])
    assert (there.y0, there.x0) == tuple(white.min(axis=0))
    assert (there.y1, there.x1) == tuple(white.max(axis=0) + 1)
    assert all(there.x0 <= x <= there.x1 and there.y0 <= y <= there.y1 for x, y in there.landmarks)


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_box_that_is_turned_is_turned_back_by_its_own_rotation(rotation):
    turned = turned_box(BOX, (12, 8), rotation)
    assert turned.rotation == rotation
    assert upright_box(turned, (12, 8), turned.rotation) == BOX
