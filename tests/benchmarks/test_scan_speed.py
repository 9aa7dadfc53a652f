"""The benchmark's pictures are what they are called, and its page shows what was measured."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from benchmarks.speed import page as speed_page
from benchmarks.speed import scan as speed
from benchmarks.speed.workload import KINDS, jpeg, portrait, write_folder
from bladescan.detectors.shipped import ONNX
from bladescan.faces.finders import open_face_finder
from bladescan.images.decoding import decode_image
from bladescan.images.limits import Limits


@pytest.fixture(scope="module")
def face(tmp_path_factory):
    return portrait(tmp_path_factory.mktemp("samples"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("1024")])
def test_a_picture_has_the_size_and_the_faces_of_its_kind(face, kind):
    data = jpeg(kind, face, 1)
    assert data == jpeg(kind, face, 1) != jpeg(kind, face, 2)
    assert Image.open(io.BytesIO(data)).size == KINDS[kind][:2]
    image = next(decode_image(data, Limits()).frames)[1]
    assert len(open_face_finder("yunet").find(image)) == KINDS[kind][2]


def test_every_stage_of_a_picture_with_a_face_takes_time(face, tmp_path):
    folder = write_folder(tmp_path / "few", "512 px, one face", face, 2, 2)
    backend = speed.Runtime("onnx", ONNX).open(1)
    found = speed.stages(sorted(folder.iterdir()), open_face_finder("yunet"), backend, 1)
    assert list(found) == ["read and decode", "find faces", "crop", "encoder and heads", "rows"]
    assert min(found.values()) > 0


FOUND = {
    "machine": {"cpu": "c", "cores": 2, "python": "3", "packages": {"numpy": "1"}},
    "stages_ms": {
        "1024 px, one face": {"read and decode": 10.0, "find faces": 20.0, "encoder and heads": 9.0}
    },
    "encoder_ms": {"pytorch": 70.0, "onnx": 10.0},
    "backends_ms": {"batch 8": {"pytorch": 30.0, "onnx": 10.0}},
    "resnet50_ms": {},
    "images_per_second": {
        "bladescan scan, onnx": 40.0,
        "bladescan scan, pytorch, 2 workers": 10.0,
        "other": 8.0,
    },
    "start_s": {speed_page.TYPER: 0.1, "bladescan --help": 0.2},
    "memory_mb": {"10 images": 200.0},
    "wheel_mb": 20.0,
}


def test_the_page_compares_with_what_it_says():
    page = speed_page.page(FOUND)
    for cell in (
        "| bladescan scan, onnx | 40.0 | 0.80 | 1.0 x |",  # 2000 / (10 + 20 + 10) = 50 are allowed
        "| bladescan scan, pytorch, 2 workers | 10.0 | 0.50 | 4.0 x |",
        "| other | 8.0 |  | 5.0 x |",
        "10.00 (3.0 x)",
        "| 0.20 | 2.0 x",
        "| 200 |",
    ):
        assert cell in page


def test_the_plot_is_a_picture():
    assert Image.open(io.BytesIO(speed_page.plot(FOUND))).size[0] > 500
