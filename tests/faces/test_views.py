"""Views of a face: what each does to the pixels, and where it is cut out."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from bladescan.base.records import FaceBox
from bladescan.detectors.manifest import FACE_RULE
from bladescan.faces.crops import crop_face, crop_square, part_of, resample, whole_crop
from bladescan.faces.pictures import upright
from bladescan.faces.views import VIEWS, face_views


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(5)
    grain = rng.integers(90, 170, (60, 80, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(grain).resize((640, 480), Image.Resampling.BICUBIC))


BOX = FaceBox(250.3, 150.6, 380.9, 300.2, 0.9)


def difference(a, b):
    return np.abs(a.astype(float) - b).mean()


def test_each_view_differs_a_little_from_the_crop_and_from_the_others(picture):
    views = face_views(picture, BOX)
    assert views.shape == (len(VIEWS), 224, 224, 3) and views.dtype == np.uint8
    crop = crop_face(picture, BOX)
    apart = [difference(view, crop) for view in views]
    assert all(0.1 < apart_by < 40 for apart_by in apart), apart
    assert len({view.tobytes() for view in views}) == len(VIEWS)


def test_the_jpeg_view_is_the_crop_of_the_whole_picture_saved_as_jpeg(picture):
    file = BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=85)
    whole = np.asarray(Image.open(file).convert("RGB"))
    view = face_views(picture, BOX)[VIEWS.index("jpeg-85")]
    assert difference(view, crop_face(whole, BOX)) < 0.05 < difference(view, crop_face(picture, BOX))


def test_the_shifted_views_lie_5_percent_of_the_square_beside_it(picture):
    x0, y0, x1, y1 = crop_square(BOX, 640, 480, FACE_RULE)
    by = 0.05 * (x1 - x0)
    views = face_views(picture, BOX)
    for name, (dx, dy) in {"left": (-by, 0), "right": (by, 0), "up": (0, -by), "down": (0, by)}.items():
        expected = resample(picture, (x0 + dx, y0 + dy, x1 + dx, y1 + dy), 224, 0, "antialias")
        assert difference(views[VIEWS.index(name)], expected) < 1.0


def test_views_of_a_turned_face_are_those_of_the_picture_turned_upright(picture):
    turned = np.ascontiguousarray(np.rot90(picture, -1))  # clockwise by 90 degrees
    box = FaceBox(480 - 300.2, 250.3, 480 - 150.6, 380.9, 0.9, rotation=90)
    assert (upright(turned, 90) == picture).all()
    for ours, theirs in zip(face_views(turned, box), face_views(picture, BOX), strict=True):
        assert difference(ours, theirs) < 0.5


def test_an_array_and_a_pillow_image_have_the_same_views(picture):
    assert (face_views(picture, BOX) == face_views(Image.fromarray(picture), BOX)).all()


@pytest.mark.parametrize("box", [FaceBox(-20, -9, 70, 80, 0.9), FaceBox(560, 400, 650, 490, 0.9)])
def test_at_the_border_every_shift_still_moves(picture, box):
    views, crop = face_views(picture, box), crop_face(picture, box)
    assert all(difference(view, crop) > 0.1 for view in views[2:])


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (224, 224), (5000, 4000)])
def test_an_image_that_is_a_crop_has_views_whatever_its_size(size):
    image = Image.effect_noise(size, 60).convert("RGB")
    views = face_views(image, None)
    assert views.shape == (6, 224, 224, 3)
    assert difference(views[0], whole_crop(image)) < 30


def test_a_part_knows_where_the_rectangle_lies_in_it(picture):
    part, within = part_of(picture, (10.5, 20.0, 30.0, 40.25), 0)
    assert part.size == (20, 21) and within == (0.5, 0.0, 20.0, 20.25)
