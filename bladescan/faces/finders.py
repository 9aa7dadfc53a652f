"""Where the faces are: the `FaceDetector` protocol, the finders by name, and a frame's faces as crops.

It reads no file but a finder's own weights, downloads nothing, and knows nothing of detectors or verdicts.

A finder is deterministic: the same pixels give the same boxes, whatever ran before. See docs/faces.md for
what each one finds and how its threshold was measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.base.records import FaceBox, FaceCrop
from bladescan.detectors.manifest import FACE_RULE, FaceRule
from bladescan.faces.crops import AnyImage, crop_face, image_size, whole_crop
from bladescan.faces.mtcnn import Mtcnn, mtcnn_files
from bladescan.faces.scrfd import INSIGHTFACE_PACK, InsightFace, insightface_files
from bladescan.faces.yunet import YUNET, YuNet

FACE_FINDERS = ("auto", "yunet", "mtcnn", "insightface", "none")
"""What `open_face_detector` takes; insightface also as ``insightface:PACK`` or ``insightface:PATH``."""


@runtime_checkable
class FaceDetector(Protocol):
    """Finds faces.

    Attributes:
        name: the finder in use, never ``auto``.
    """

    name: str

    def find(self, image: AnyImage) -> list[FaceBox]:
        """Find the faces in an RGB image, highest score first, in pixels of that image."""


def open_face_detector(name: str, *, min_face: int = 32) -> FaceDetector:
    """Load a face finder.

    ``auto`` is yunet, whose weights ship with bladescan; ``.name`` says which finder it is.

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
    kind, model = _parsed(name)
    match kind:
        case "auto" | "yunet":
            return YuNet(min_face=min_face)
        case "mtcnn":
            return Mtcnn(min_face=min_face)
        case "insightface":
            return InsightFace(model, min_face=min_face)
    return WholeImage()


def weight_files(name: str) -> list[Path]:
    """List the files of weights that decide what a face finder finds; ``none`` has none.

    Args:
        name: as for `open_face_detector`, which raises the same errors.
    """
    kind, model = _parsed(name)
    match kind:
        case "auto" | "yunet":
            return [YUNET]
        case "mtcnn":
            return mtcnn_files()
        case "insightface":
            return insightface_files(model)
    return []


def _parsed(name: str) -> tuple[str, str]:
    """Split a name into the finder and the model that insightface opens."""
    kind, _, model = name.partition(":")
    if kind not in FACE_FINDERS or (model and kind != "insightface"):
        raise UnknownNameError("face finder", name, FACE_FINDERS)
    return kind, model or INSIGHTFACE_PACK


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
        """Take the whole image for one face, certain."""
        width, height = image_size(image)
        return [FaceBox(0.0, 0.0, float(width), float(height), 1.0)]
