"""The insightface face finder: an SCRFD network that the user has fetched, run by insightface.

It reads no file but the network's, and downloads nothing.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bladescan.base.errors import BackendError, MissingDependencyError, first_line
from bladescan.base.records import FaceBox
from bladescan.faces.directions import TurnScores, search_around
from bladescan.faces.pictures import AnyImage, Pixels, Size, image_size
from bladescan.faces.search import distinct

INSIGHTFACE_MIN_SCORE = 0.5
"""The value that insightface itself starts from."""
INSIGHTFACE_TURNS = TurnScores(sure=0.8, hint=0.5, least=0.6)
"""Not measured: no published weights were at hand."""
INSIGHTFACE_PACK = "buffalo_l"
INSIGHTFACE_NOTICE = (
    "insightface's pretrained models are licensed for non-commercial research only; its code is MIT"
)

_GLANCE_SIDE = 256  # pixels; insightface searches at 640 and 128


class InsightFace:
    """An SCRFD network run by insightface, on the CPU: boxes with five landmarks.

    Nothing is downloaded: insightface would fetch a pack without a checksum, in each process of a scan.

    Args:
        model: an SCRFD ``.onnx`` file, the folder of a pack, or the name of a pack in
            ``~/.insightface/models``.
        min_face: pixels; boxes with a shorter longer side are left out.

    Attributes:
        notice: the licence of the models, to be said once.

    Raises:
        MissingDependencyError: insightface is not installed.
        BackendError: there is no such pack, or no SCRFD network in it.
    """

    notice = INSIGHTFACE_NOTICE

    def __init__(self, model: str, *, min_face: int = 32) -> None:
        if importlib.util.find_spec("insightface") is None:
            raise MissingDependencyError(
                "the face finder 'insightface'", "insightface", "pip install 'bladescan[insightface]'"
            )
        path = _insightface_path(model)
        self.name = f"insightface:{path.name}"
        self._network = _open_scrfd(path)
        self._min_face = min_face

    def find(self, image: AnyImage) -> list[FaceBox]:
        """Find the faces in an RGB image, highest score first."""
        if max(image_size(image)) < self._min_face:
            return []
        return search_around(image, self._find_upright, self._glance, _GLANCE_SIDE, INSIGHTFACE_TURNS)

    def _find_upright(self, image: AnyImage) -> list[FaceBox]:
        return [box for box in self._faces(image) if box.side >= self._min_face]

    def _glance(self, picture: Image.Image) -> list[FaceBox]:
        return self._faces(picture, (_GLANCE_SIDE, _GLANCE_SIDE))

    def _faces(self, image: AnyImage, input_size: Size | None = None) -> list[FaceBox]:
        bgr = np.ascontiguousarray(_not_too_thin(np.asarray(image))[:, :, ::-1])
        rows, points = self._network.detect(bgr, input_size=input_size)
        boxes = [
            FaceBox(x0, y0, x1, y1, min(max(score, 0.0), 1.0)) for x0, y0, x1, y1, score in rows.tolist()
        ]
        if points is not None:
            pairs = zip(boxes, points.tolist(), strict=True)
            boxes = [replace(box, landmarks=tuple((x, y) for x, y in five)) for box, five in pairs]
        return distinct(boxes)


def _not_too_thin(image: Pixels) -> Pixels:
    # insightface fits an image into 128 pixels and rounds down: a 1 x 10000 strip would get no width.
    height, width = image.shape[:2]
    least = -(-max(height, width) // 32)
    return np.pad(image, [(0, max(0, least - height)), (0, max(0, least - width)), (0, 0)], mode="edge")


def insightface_files(model: str) -> list[Path]:
    """List the ONNX files of a pack, sorted, or the one file that is named.

    Args:
        model: as for `InsightFace`.

    Raises:
        BackendError: there is no such pack.
    """
    path = _insightface_path(model)
    return [path] if path.is_file() else sorted(path.rglob("*.onnx"))


def _insightface_path(model: str) -> Path:
    for name in (model, os.path.join("~/.insightface/models", model)):
        path = Path(os.path.expanduser(name))  # unlike Path.expanduser, it bears that there is no home
        if path.is_file() or any(path.rglob("*.onnx")):
            return path
    raise BackendError(
        f"insightface model {model!r} not found: expected an SCRFD .onnx file, a folder with one, or a pack "
        "in ~/.insightface/models (bladescan downloads none); to fetch one where there is a network: "
        f"insightface-cli model.download {INSIGHTFACE_PACK}"
    )


def _open_scrfd(path: Path) -> Any:
    try:
        from insightface.app import FaceAnalysis
        from insightface.model_zoo import get_model

        cpu = ["CPUExecutionProvider"]
        if path.is_file():
            network = get_model(str(path), providers=cpu)
        else:
            network = FaceAnalysis(str(path), allowed_modules=["detection"], providers=cpu).det_model
    except Exception as exc:  # insightface raises AssertionError, and whatever onnxruntime and onnx raise
        what = first_line(exc)
        raise BackendError(f"{path}: insightface finds no face detection network there: {what}") from exc
    if getattr(network, "taskname", None) != "detection":
        raise BackendError(f"{path}: not an SCRFD face detection network")
    network.prepare(-1, det_thresh=INSIGHTFACE_MIN_SCORE)
    return network
