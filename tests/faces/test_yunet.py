from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import BackendError
from bladescan.faces import yunet
from bladescan.faces.search import distinct
from bladescan.faces.yunet import YUNET, YuNet

HEADS = {"class": 1, "object": 1, "box": 4}
SIDES = (64, 96)
"""Height and width of a picture whose network outputs are made up here."""


def _outputs(seed: int) -> list[np.ndarray]:
    """Class, objectness and box of each stride, as if they came from the network: some cells are sure."""
    rng = np.random.default_rng(seed)
    outputs = []
    for stride in (8, 16, 32):
        cells = (SIDES[0] // stride, SIDES[1] // stride)
        outputs += [rng.normal(0, 4, (1, 1, *cells)) for _ in range(2)]
        outputs.append(rng.normal(0, 0.7, (1, 4, *cells)))
    return [output.astype(np.float32) for output in outputs]


def _decoded_by_loops(outputs: list[np.ndarray], min_score: float) -> list[tuple[int, ...]]:
    """x, y, width, height and percent of each face, cell by cell, as YuNet's authors write it."""
    cells = []
    for level, stride in enumerate((8, 16, 32)):
        classes, objects, boxes = (output[0].astype(float) for output in outputs[3 * level : 3 * level + 3])
        for row, column in np.ndindex(*classes[0].shape):
            shares = [1 / (1 + math.exp(-logits[0, row, column])) for logits in (classes, objects)]
            score = math.sqrt(shares[0] * shares[1])
            x, y, w, h = boxes[:, row, column]
            x, y = (x + column) * stride, (y + row) * stride
            w, h = math.exp(w) * stride, math.exp(h) * stride
            if score >= min_score:
                cells.append((score, x - w / 2, y - h / 2, w, h))
    kept: list[tuple[float, ...]] = []
    for cell in sorted(cells, reverse=True):
        if all(_overlap(cell[1:], other[1:]) <= 0.45 for other in kept):
            kept.append(cell)
    return [(int(x), int(y), int(w), int(h), int(100 * score)) for score, x, y, w, h in kept]


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = max(0.0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


@pytest.mark.parametrize("min_score", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("seed", range(5))
def test_boxes_follow_from_the_outputs_as_in_loops_over_the_cells(seed, min_score):
    outputs = _outputs(seed)
    found = yunet._decoded(outputs, min_score)
    rows = [(int(b.x0), int(b.y0), int(b.x1 - b.x0), int(b.y1 - b.y0), round(100 * b.score)) for b in found]
    assert rows == _decoded_by_loops(outputs, min_score)
    assert len(rows) > 2


def test_the_file_is_the_one_that_its_notice_describes():
    notice = YUNET.with_name("NOTICE.md").read_text()
    assert f"`{hashlib.sha256(YUNET.read_bytes()).hexdigest()}`" in notice
    assert "Redistribution and use in source and binary forms" in notice


def test_the_file_is_a_valid_onnx_model_that_says_where_it_comes_from():
    onnx = pytest.importorskip("onnx")
    model = onnx.load(YUNET)
    onnx.checker.check_model(model, full_check=True)
    outputs = {
        output.name: [dim.dim_value for dim in output.type.tensor_type.shape.dim[:2]]
        for output in model.graph.output
    }
    assert outputs == {f"{head}_{s}": [1, n] for head, n in HEADS.items() for s in (8, 16, 32)}
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["licence"].startswith("BSD-3-Clause") and "libfacedetection" in told["upstream"]


@pytest.mark.parametrize(("width", "height"), [(33, 47), (320, 241)])
def test_black_to_the_right_and_below_up_to_a_multiple_of_32_changes_nothing(portraits, width, height):
    """The network takes no other sizes; a picture of such a size is filled up with black."""
    finder = YuNet(min_score=0.3)
    small = Image.fromarray(portraits[0]).resize((width, height))
    canvas = Image.new("RGB", (-(-width // 32) * 32, -(-height // 32) * 32))
    canvas.paste(small, (0, 0))
    assert finder._look(small) == finder._look(canvas)


def test_a_face_is_surer_in_rgb_than_in_bgr(portraits):
    """Which order of channels the network wants; here over all portraits."""

    def mean_score(images: list[np.ndarray]) -> float:
        return float(np.mean([YuNet(min_score=0.3).find(image)[0].score for image in images]))

    swapped = [np.ascontiguousarray(image[:, :, ::-1]) for image in portraits]
    assert mean_score(portraits) > mean_score(swapped)


def test_a_higher_threshold_keeps_the_surest_faces_as_they_are(portraits):
    tiles = [np.asarray(Image.fromarray(image).resize((80, 80))) for image in portraits[:6]]
    board = np.concatenate([np.concatenate(tiles[:3], axis=1), np.concatenate(tiles[3:], axis=1)])
    all_faces = YuNet(min_score=0.3, min_face=16).find(board)
    sure = YuNet(min_score=0.85, min_face=16).find(board)
    assert sure == [face for face in all_faces if face.score >= 0.85] == distinct(sure)
    assert 0 < len(sure) <= len(all_faces)


@pytest.mark.parametrize("content", [None, b"", b"no network"])
def test_a_file_that_is_missing_or_damaged_is_one_line(tmp_path: Path, monkeypatch, content):
    path = tmp_path / "yunet.onnx"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(yunet, "YUNET", path)
    yunet._session.cache_clear()
    try:
        with pytest.raises(BackendError, match="yunet.onnx: not a usable network: pip install") as caught:
            YuNet()
    finally:
        yunet._session.cache_clear()
    assert "\n" not in str(caught.value)
