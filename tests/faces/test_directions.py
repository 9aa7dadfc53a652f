from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bladescan.base.records import FaceBox
from bladescan.faces.directions import TURNED, TurnScores, search_around
from bladescan.faces.finders import FaceFinder, face_crops
from bladescan.faces.pictures import turned_box, upright
from bladescan.faces.search import CLEAR_SHARE, glance_side
from tests.faces.conftest import common_share

SCORES = TurnScores(sure=0.9, hint=0.3, least=0.7)
SIDE = 40
"""Of the small picture."""


class Flags:
    """Finds red squares; one is upright if the blue line is above it, and the redder the surer.

    On its head it is half as sure, as real finders may be; lying it is not seen.
    """

    def __init__(self) -> None:
        self.searched: list[tuple[int, int]] = []

    def find(self, image: Image.Image | np.ndarray) -> list[FaceBox]:
        """Search for upright squares with a score of at least 0.4."""
        self.searched.append(Image.fromarray(np.asarray(image)).size)
        return [face for face in self.look(image) if face.score >= 0.4]

    def look(self, image: Image.Image | np.ndarray) -> list[FaceBox]:
        """Look for them at any score."""
        pixels = np.asarray(image).astype(int)
        red = np.argwhere(pixels[:, :, 0] > 90)
        if not len(red):
            return []
        (y0, x0), (y1, x1) = red.min(axis=0), red.max(axis=0) + 1
        blue = np.argwhere(pixels[:, :, 2] > 90).mean(axis=0)
        red_share = pixels[:, :, 0].max() / 255
        score = red_share if blue[0] < y0 else red_share / 2 if blue[0] > y1 else 0.0
        return [FaceBox(float(x0), float(y0), float(x1), float(y1), score)] if score >= SCORES.hint else []


def _flag(red: int, rotation: int) -> np.ndarray:
    image = np.zeros((120, 160, 3), np.uint8)
    image[40:60, 30:50, 0] = red
    image[30:36, 30:50, 2] = 255
    return np.ascontiguousarray(upright(image, -rotation % 360))


def _around(image: np.ndarray, finder: Flags) -> list[FaceBox]:
    return search_around(image, finder.find, finder.look, SIDE, SCORES)


@pytest.mark.parametrize("rotation", TURNED)
def test_a_turned_face_is_found_where_it_lies(rotation):
    image = _flag(250, rotation)
    (face,) = _around(image, Flags())
    assert face.rotation == rotation
    (y0, x0), (y1, x1) = (
        f(axis=0) for f in (np.argwhere(image[:, :, 0]).min, np.argwhere(image[:, :, 0]).max)
    )
    assert (face.x0, face.y0, face.x1, face.y1) == (x0, y0, x1 + 1, y1 + 1)


def test_a_sure_face_that_stands_upright_is_searched_once():
    finder = Flags()
    (face,) = _around(_flag(250, 0), finder)
    assert face.rotation == 0 and finder.searched == [(160, 120)]


def test_a_doubtful_face_that_is_no_surer_otherwise_stays_as_it_is():
    finder = Flags()
    (face,) = _around(_flag(200, 0), finder)
    assert face.rotation == 0 and face.score < SCORES.sure and finder.searched == [(160, 120)]


def test_a_face_that_was_found_on_its_head_is_turned():
    """Half of 0.98 is enough to be found, and no turn but the right one is as sure."""
    assert Flags().find(_flag(250, 180))
    (face,) = _around(_flag(250, 180), Flags())
    assert (face.rotation, round(face.score, 2)) == (180, 0.98)


def test_a_turned_face_needs_a_higher_score_than_an_upright_one():
    assert _around(_flag(150, 0), Flags())
    assert _around(_flag(150, 90), Flags()) == []


def test_a_picture_without_a_face_is_searched_once_besides_the_glances():
    finder = Flags()
    assert _around(np.zeros((120, 160, 3), np.uint8), finder) == []
    assert finder.searched == [(160, 120)]


@pytest.mark.parametrize(
    ("size", "side"),
    [((4000, 3000), 288), ((512, 512), 224), ((200, 200), 128), ((10_000, 606), 1152), ((606, 10_000), 1152)],
)
def test_a_glance_costs_a_fifth_of_the_largest_look(size, side):
    assert glance_side(size, (320, 640)) == side


# Real faces


@pytest.mark.parametrize("rotation", TURNED)
def test_portraits_that_are_turned_have_the_boxes_and_crops_of_the_upright_ones(finder, portraits, rotation):
    alike = 0
    for image in portraits:
        straight, lying = face_crops(image, finder, 0)[0], upright(image, 360 - rotation)
        turned = face_crops(np.ascontiguousarray(lying), finder, 0)[0]
        truth = turned_box(straight.box, (lying.shape[1], lying.shape[0]), rotation)
        alike += turned.box.rotation == rotation and common_share(turned.box, truth) > 0.99
        if turned.box == truth:
            np.testing.assert_array_equal(turned.pixels, straight.pixels)
    assert alike >= len(portraits) - 1


def test_portraits_that_stand_upright_stay_as_they_are(finder, portraits):
    for image in portraits:
        assert finder.find(image) == finder._find_upright(image)
        assert {box.rotation for box in finder.find(image)} == {0}


@pytest.mark.parametrize("size", [(10_000, 606), (606, 10_000)])
@pytest.mark.parametrize("rotation", [0, 90])
def test_a_face_in_a_very_wide_or_high_picture_is_found(finder: FaceFinder, portraits, size, rotation):
    face = Image.fromarray(portraits[1]).resize((360, 360))
    canvas = Image.new("RGB", size, (90, 110, 90))
    canvas.paste(upright(face, -rotation % 360), (200, 180))
    best = finder.find(canvas)[0]
    assert 200 < best.x0 < best.x1 < 560 and 180 < best.y0 < best.y1 < 540
    assert best.rotation == rotation and best.side < CLEAR_SHARE * max(size)
