"""The YuNet face finder: libfacedetection's network, run by onnxruntime, and its outputs made into boxes.

``yunet.onnx`` lies beside this module, its origin and licence in ``NOTICE.md``. Nothing else is read.

References:
    Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bladescan.base.errors import BackendError
from bladescan.base.records import FaceBox
from bladescan.faces.directions import TurnScores, search_around
from bladescan.faces.pictures import AnyImage, Pixels, image_size
from bladescan.faces.search import LOOKS, distinct, glance_side, search
from bladescan.faces.suppression import suppress
from bladescan.runtimes.onnx_session import UnloadableGraphError, open_session

YUNET = Path(__file__).with_name("yunet.onnx")
"""RGB ``[1, 3, h, w]`` in, sides multiples of 32.

Out come class and objectness as logits ``[1, 1, h / s, w / s]`` and box ``[1, 4, ..]`` at each stride s. The
landmarks of its authors' network are left out: docs/faces.md says why.
"""
YUNET_MIN_SCORE = 0.8
YUNET_TURNS = TurnScores(sure=0.92, hint=0.4, least=0.85)

_STRIDES = (8, 16, 32)
_OUTPUTS = [f"{head}_{stride}" for stride in _STRIDES for head in ("class", "object", "box")]
_MULTIPLE = 32
"""Pictures are filled up with black to a multiple of this many pixels."""
_SAME_FACE = 0.45
_MOST_CANDIDATES, _MOST_FACES = 1000, 512


class YuNet:
    """libfacedetection's network: quick, boxes without landmarks.

    Args:
        min_face: pixels; boxes with a shorter longer side are left out.
        min_score: faces of which the network is less sure are left out.
        looks: long sides in pixels at which an image is searched.

    Raises:
        BackendError: its file is missing or damaged.
    """

    name = "yunet"

    def __init__(
        self, *, min_face: int = 32, min_score: float = YUNET_MIN_SCORE, looks: Sequence[int] = LOOKS
    ) -> None:
        self._session = _session()
        self._min_face, self._min_score, self._looks = min_face, min_score, tuple(looks)

    def find(self, image: AnyImage) -> list[FaceBox]:
        """Find the faces in an RGB image, highest score first."""
        side = glance_side(image_size(image), self._looks)
        return search_around(image, self._find_upright, self._glance, side, YUNET_TURNS)

    def _find_upright(self, image: AnyImage) -> list[FaceBox]:
        return search(image, self._look, self._looks, self._min_face)

    def _look(self, picture: Image.Image) -> list[FaceBox]:
        return self._faces(picture, self._min_score)

    def _glance(self, picture: Image.Image) -> list[FaceBox]:
        return self._faces(picture, YUNET_TURNS.hint)

    def _faces(self, picture: Image.Image, min_score: float) -> list[FaceBox]:
        outputs = self._session.run(_OUTPUTS, {"image": _filled_up(np.asarray(picture))})
        return distinct([box for box in _decoded(outputs, min_score) if box.score >= min_score])


@lru_cache(maxsize=1)
def _session() -> Any:
    try:
        return open_session(YUNET, threads=1)
    except UnloadableGraphError as exc:
        message = f"{YUNET}: not a usable network: pip install --force-reinstall bladescan ({exc})"
        raise BackendError(message) from exc


def _filled_up(image: Pixels) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    shape = (1, 3, -(-height // _MULTIPLE) * _MULTIPLE, -(-width // _MULTIPLE) * _MULTIPLE)
    filled = np.zeros(shape, np.float32)
    filled[0, :, :height, :width] = image.transpose(2, 0, 1)
    return filled


def _decoded(outputs: list[NDArray[np.float32]], min_score: float) -> list[FaceBox]:
    """Read faces from the network's output; boxes in whole pixels, scores in whole percents.

    libfacedetection rounds both towards 0, and detectors were fitted on the crops that follow from it.
    """
    found = [_candidates(s, outputs[3 * i : 3 * i + 3], min_score) for i, s in enumerate(_STRIDES)]
    scores, corners = (np.concatenate(parts) for parts in zip(*found, strict=True))
    best = np.argsort(-scores, kind="stable")[:_MOST_CANDIDATES]
    best = best[suppress(corners[best], _SAME_FACE)][:_MOST_FACES]
    sizes = corners[best, 2:] - corners[best, :2]
    rows = np.column_stack([corners[best, :2], sizes, scores[best] * np.float32(100)]).astype(int)
    return [
        FaceBox(float(x), float(y), float(x + w), float(y + h), percent / 100)
        for x, y, w, h, percent in rows.tolist()
    ]


def _candidates(
    stride: int, outputs: list[NDArray[np.float32]], min_score: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores ``[n]`` and corners ``[n, 4]`` of one stride's cells, without those of a lower score."""
    classes, objects, boxes = (output[0] for output in outputs)
    rows, columns, scores = _likely_cells(classes[0], objects[0], min_score)
    x, y, log_width, log_height = boxes[:, rows, columns]
    step, two = np.float32(stride), np.float32(2)
    x, y = x * step + columns.astype(np.float32) * step, y * step + rows.astype(np.float32) * step
    width, height = np.exp(log_width) * step, np.exp(log_height) * step
    corners = np.stack([x - width / two, y - height / two, x + width / two, y + height / two], axis=1)
    return scores, corners


def _likely_cells(
    classes: NDArray[np.float32], objects: NDArray[np.float32], min_score: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Rows, columns and scores of the cells with at least this score, from logits ``[h / s, w / s]``."""
    least = max(min_score - 1e-6, 0.0)  # whole percents decide in the end
    # The geometric mean of two probabilities reaches it only where each reaches its square.
    logit = _logit(least**2) - 1e-3
    rows, columns = np.nonzero((classes >= logit) & (objects >= logit))
    scores = np.sqrt(_sigmoid(classes[rows, columns]) * _sigmoid(objects[rows, columns]))
    enough = scores >= least
    return rows[enough], columns[enough], scores[enough]


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability)) if probability else -math.inf


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    one = np.float32(1)
    return one / (one + np.exp(-np.clip(logits, -88, 88)))
