from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import MissingDependencyError, UnknownNameError, UsageError
from bladescan.base.records import FaceBox
from bladescan.detectors.manifest import FaceRule
from bladescan.faces.crops import crop_square
from bladescan.faces.finders import (
    FACE_FINDERS,
    face_crops,
    finder_packages,
    open_face_finder,
    weight_files,
)
from bladescan.faces.yunet import YuNet
from tests.faces.conftest import OFFLINE, common_share, read


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_with_none_the_whole_image_is_the_one_crop_and_has_no_box():
    image = _noise(224, 224)
    (crop,) = face_crops(image, open_face_finder("none"), 3)
    assert (crop.frame, crop.box) == (3, None)
    assert np.array_equal(crop.pixels, image)


# The registry


def test_an_unknown_finder_is_refused_with_the_nearest_name():
    for refuse in (open_face_finder, weight_files, finder_packages):
        with pytest.raises(UnknownNameError, match="Did you mean 'yunet'.*Available: auto, insightface"):
            refuse("yumet")


def test_only_insightface_takes_a_model():
    with pytest.raises(UnknownNameError):
        open_face_finder("mtcnn:x")


def test_a_smallest_face_of_no_pixels_is_refused():
    with pytest.raises(UsageError, match="at least 1 pixel"):
        open_face_finder("none", min_face=0)


def test_auto_is_yunet():
    assert open_face_finder("auto").name == "yunet"


@pytest.mark.parametrize("name", [*OFFLINE, "none"])
def test_each_name_opens_the_finder_of_that_name(name):
    assert open_face_finder(name).name == name


def test_every_finder_of_the_table_names_the_packages_that_run_it():
    assert {name for name in FACE_FINDERS if not finder_packages(name)} == {"none"}
    assert finder_packages("insightface:buffalo_l") == ("insightface", "onnxruntime")


def test_insightface_that_is_not_installed_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "insightface", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        open_face_finder("insightface")


def test_the_weights_of_the_finders_here_are_files_and_none_has_none():
    for name in OFFLINE:
        assert all(path.is_file() for path in weight_files(name))
    assert [path.name for path in weight_files("auto")] == ["yunet.onnx"]
    assert weight_files("none") == []


def test_importing_the_module_loads_no_runtime():
    code = (
        "import bladescan.faces.finders, sys;"
        "sys.exit(bool({'onnxruntime', 'insightface', 'cv2', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Any picture


@pytest.mark.parametrize("shape", [(1, 1), (1, 10000), (10000, 1), (20, 20), (33, 47), (3000, 4000)])
def test_grey_noise_of_any_size_has_no_face_and_breaks_nothing(finder, shape):
    image = np.repeat(_noise(*shape)[:, :, :1], 3, axis=2)
    assert finder.find(image) == []


def test_a_flat_picture_has_no_face(finder):
    assert finder.find(np.full((480, 640, 3), 128, np.uint8)) == []


def test_a_picture_smaller_than_the_smallest_face_is_not_searched(portraits):
    small = np.asarray(Image.fromarray(portraits[0]).resize((60, 60)))
    assert YuNet(min_face=16).find(small)
    assert YuNet(min_face=61).find(small) == []


# Real faces


def test_each_portrait_has_its_face_in_the_middle(finder, portraits):
    for image in portraits:
        height, width = image.shape[:2]
        best = finder.find(image)[0]
        assert 0.2 < (best.x0 + best.x1) / 2 / width < 0.8 and 0.2 < (best.y0 + best.y1) / 2 / height < 0.8
        assert 0.3 < best.side / max(height, width) < 0.9


def test_the_same_picture_gives_the_same_boxes_whatever_was_searched_before(finder, portraits):
    first = [finder.find(image) for image in portraits[:4]]
    finder.find(_noise(300, 300))
    again = [open_face_finder(finder.name).find(image) for image in reversed(portraits[:4])]
    assert first == again[::-1]


def test_a_picture_has_the_boxes_and_crops_of_its_array(finder, portraits):
    for image in portraits[:3]:
        cut, again = face_crops(image, finder, 0), face_crops(Image.fromarray(image), finder, 0)
        assert [crop.box for crop in cut] == [crop.box for crop in again]
        np.testing.assert_array_equal([crop.pixels for crop in cut], [crop.pixels for crop in again])


def test_several_faces_come_in_order_of_score_one_box_each(finder, portraits):
    tiles = [np.asarray(Image.fromarray(image).resize((200, 200))) for image in portraits[:6]]
    board = np.concatenate([np.concatenate(tiles[:3], axis=1), np.concatenate(tiles[3:], axis=1)])
    found = finder.find(board)
    assert len(found) == 6
    assert all(a.score >= b.score for a, b in pairwise(found)) and 0 <= found[-1].score <= found[0].score <= 1
    cells = {(int((box.x0 + box.x1) / 2 // 200), int((box.y0 + box.y1) / 2 // 200)) for box in found}
    assert len(cells) == 6


def test_boxes_are_in_pixels_of_the_image_given(finder, portraits):
    """A face pasted into 12 megapixels is found where it was put, at the size it has there."""
    face = Image.fromarray(portraits[1]).resize((600, 600))
    canvas = Image.new("RGB", (4000, 3000), (90, 110, 90))
    canvas.paste(face, (2500, 1500))
    here, there = finder.find(np.asarray(face))[0], finder.find(np.asarray(canvas))[0]
    moved = FaceBox(here.x0 + 2500, here.y0 + 1500, here.x1 + 2500, here.y1 + 1500, 1.0)
    assert common_share(moved, there) > 0.6


def test_small_faces_that_the_first_look_misses_are_found_by_the_second(portraits):
    face = Image.fromarray(portraits[1]).resize((60, 60))
    canvas = Image.new("RGB", (1600, 1200), (90, 110, 90))
    canvas.paste(face, (800, 600))
    image = np.asarray(canvas)
    assert YuNet(looks=(320,), min_face=16).find(image) == []
    assert len(YuNet(min_face=16).find(image)) == 1


def test_a_face_that_fills_the_frame_is_found(finder, portraits):
    found = 0
    for image in portraits:
        box = YuNet().find(image)[0]
        x0, y0, x1, y1 = map(round, crop_square(box, image.shape[1], image.shape[0], FaceRule(scale=0.85)))
        found += bool(finder.find(np.ascontiguousarray(image[y0:y1, x0:x1])))
    assert found >= len(portraits) - 1


def test_faces_below_the_smallest_size_are_left_out(portraits):
    (side,) = {box.side for box in YuNet().find(portraits[0])}
    assert YuNet(min_face=int(side)).find(portraits[0])
    assert YuNet(min_face=int(side) + 1).find(portraits[0]) == []


def test_photographs_without_people_have_almost_no_faces(finder, data_dir):
    scenes = list((data_dir / "photographs/scenes").glob("odri_actuator-[!d]*.jpg"))
    assert len(scenes) >= 12
    assert sum(len(finder.find(read(path))) for path in scenes) <= 1
