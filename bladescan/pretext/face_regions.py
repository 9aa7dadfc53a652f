"""Regions of a face in pixels, built from its landmarks: mouth, eyes, nose, the whole.

Landmarks are the five of `FaceBox`, or 68 or 106 (`LAYOUTS`), which show the mouth, the eyes and the nose
themselves. So nothing here finds a face.

References:
    Sagonas et al., "300 Faces in-the-Wild Challenge", ICCVW 2013 (68 points); insightface,
    alignment/coordinate_reg (106 points).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError

Landmarks = NDArray[np.float32]
"""(x, y) in pixels. ``[5, 2]``: left eye, right eye, nose tip, left and right mouth corner, as seen; or
``[68, 2]`` or ``[106, 2]`` in the order of `LAYOUTS`."""


class LandmarkLayout(NamedTuple):
    """Where the parts of a face stand in dense landmarks; left and right as seen.

    Attributes:
        eyes: contours of the left and the right eye.
        nose_tip: one point.
        corners: of the mouth, left and right.
        mouth: outer and inner lips.
        nose: bridge and nostrils.
    """

    eyes: tuple[slice, slice]
    nose_tip: int
    corners: tuple[int, int]
    mouth: slice
    nose: slice


LAYOUTS = {
    68: LandmarkLayout((slice(36, 42), slice(42, 48)), 30, (48, 54), slice(48, 68), slice(27, 36)),
    106: LandmarkLayout((slice(33, 43), slice(87, 97)), 86, (52, 61), slice(52, 72), slice(72, 87)),
}
"""Dense landmarks by their number: the 68 of iBUG (300-W, dlib), the 106 of insightface's 2d106det."""

_LANDMARK_COUNTS = (5, *LAYOUTS)
# Margins of dense regions in face scales, for skin around the lips, the lids and the nostrils: they make the
# regions of an average face as large as those from five points.
_MOUTH_MARGIN, _EYE_MARGIN, _NOSE_MARGIN = 0.18, 0.17, 0.12
_HIDDEN = 0.1  # of the way between the eyes: a nose nearer to one than this hides it
_NOSE_REACH = 0.35  # from the tip, in face scales: the bridge between the eyes is not flipped


class Ellipse(NamedTuple):
    """An axis-aligned region in pixels: centre and half axes."""

    x: float
    y: float
    half_width: float
    half_height: float


def five_points(landmarks: Landmarks) -> Landmarks:
    """Reduce landmarks of any known layout to eyes, nose tip and mouth corners, ``[5, 2]``.

    Raises:
        DataError: landmarks of another number.
    """
    if landmarks.shape == (5, 2):
        return landmarks
    layout = _layout_of(landmarks)
    eyes = [landmarks[eye].mean(0) for eye in layout.eyes]
    return np.stack([*eyes, landmarks[layout.nose_tip], *landmarks[list(layout.corners)]])


def _layout_of(landmarks: Landmarks) -> LandmarkLayout:
    n_points = landmarks.shape[0]
    if n_points not in LAYOUTS or landmarks.shape != (n_points, 2):
        counts = ", ".join(map(str, _LANDMARK_COUNTS))
        raise DataError(
            f"landmarks of shape {list(landmarks.shape)} are in no known order: "
            f"expected [n, 2] with n one of {counts}; reduce them to five points first"
        )
    return LAYOUTS[n_points]


def face_scale(landmarks: Landmarks) -> float:
    """Measure a length in pixels for the face, about the distance between the eyes seen frontally.

    A turned head shortens the distance between the eyes, a nod the one from eyes to mouth: the longer
    of the two is taken.

    Raises:
        DataError: landmarks in no known order; so do all functions of a region.
    """
    five = five_points(landmarks)
    eyes = float(np.linalg.norm(five[1] - five[0]))
    height = float(np.linalg.norm(five[3:].mean(0) - five[:2].mean(0)))
    return max(eyes, 0.95 * height, 1.0)


def _around(points: Landmarks, margin: float) -> Ellipse:
    """Draw the ellipse over the points' bounding box and a margin, wider where a point would lie outside."""
    low, high = points.min(0), points.max(0)
    centre, half = (low + high) / 2, (high - low) / 2 + margin
    half = half * max(1.0, float(np.linalg.norm((points - centre) / half, axis=1).max()))
    return Ellipse(float(centre[0]), float(centre[1]), float(half[0]), float(half[1]))


def mouth_region(landmarks: Landmarks) -> Ellipse:
    """Outline the mouth with a margin of lips' height."""
    scale = face_scale(landmarks)
    if len(landmarks) != 5:
        return _around(landmarks[_layout_of(landmarks).mouth], _MOUTH_MARGIN * scale)
    x, y = landmarks[3:].mean(0)
    width = abs(float(landmarks[4, 0] - landmarks[3, 0]))
    return Ellipse(float(x), float(y), width / 2 + 0.2 * scale, 0.33 * scale)


def eye_region(landmarks: Landmarks, which: int) -> Ellipse:
    """Outline the left (0) or right (1) eye, without the brow."""
    scale = face_scale(landmarks)
    if len(landmarks) != 5:
        return _around(landmarks[_layout_of(landmarks).eyes[which]], _EYE_MARGIN * scale)
    x, y = landmarks[which]
    return Ellipse(float(x), float(y), 0.36 * scale, 0.24 * scale)


def visible_eyes(landmarks: Landmarks) -> tuple[int, ...]:
    """Find the eyes, 0 left and 1 right, that a turned head does not hide.

    In a profile the nose stands at one of them, or beyond.
    """
    left, right, nose = five_points(landmarks)[:3]
    across = right - left
    place = float((nose - left) @ across) / max(
        float(across @ across), 1e-6
    )  # 0 at the left eye, 1 at the right
    return (1,) if place < _HIDDEN else (0,) if place > 1 - _HIDDEN else (0, 1)


def nose_region(landmarks: Landmarks) -> Ellipse:
    """Outline nose tip, nostrils and the lower half of the bridge."""
    scale = face_scale(landmarks)
    if len(landmarks) != 5:
        layout = _layout_of(landmarks)
        nose, tip = landmarks[layout.nose], landmarks[layout.nose_tip]
        near = np.linalg.norm(nose - tip, axis=1) <= _NOSE_REACH * scale
        return _around(nose[near], _NOSE_MARGIN * scale)
    x, y = landmarks[2]
    return Ellipse(float(x), float(y) - 0.08 * scale, 0.36 * scale, 0.36 * scale)


def face_region(landmarks: Landmarks) -> Ellipse:
    """Outline the face from hairline to chin, from cheek to cheek."""
    scale = face_scale(landmarks)
    x, y = five_points(landmarks).mean(0)
    return Ellipse(float(x), float(y), 1.05 * scale, 1.35 * scale)


def bounding_box(region: Ellipse, shape: tuple[int, ...], margin: float = 1.0) -> tuple[slice, slice]:
    """Find the rows and columns of an image that hold the region, its half axes stretched by ``margin``."""
    rows = region.y + margin * region.half_height * np.array([-1.0, 1.0])
    columns = region.x + margin * region.half_width * np.array([-1.0, 1.0])
    top, bottom = np.clip(np.round(rows), 0, shape[0]).astype(int)
    left, right = np.clip(np.round(columns), 0, shape[1]).astype(int)
    return slice(top, bottom), slice(left, right)
