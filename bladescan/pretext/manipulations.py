"""Artificial face manipulations and their labels: photographs in, pretext examples out.

Regions are built from landmarks: the five of `FaceBox`, or 68 or 106 (`LAYOUTS`), which
show the mouth, the eyes and the nose themselves. So nothing here finds a face, and nothing here augments:
compression, rescaling and cropping, which must befall untouched and manipulated faces alike, are the
business of `bladescan.photographs.index`.

Flips permute pixels along the image axes and leave no trace of resampling; what gives them away is
anatomy, light and the seam. Every manipulation is pasted back through a blurred mask, and pixels where
that mask is zero keep their value bit for bit.

References:
    Zou et al., arXiv:2507.22824, section 3; the released preprocessing code. Sagonas et al., "300 Faces
    in-the-Wild Challenge", ICCVW 2013 (68 points); insightface, alignment/coordinate_reg (106 points).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError, UnknownNameError

Pixels = NDArray[np.uint8]
"""RGB, ``[h, w, 3]``."""

Landmarks = NDArray[np.float32]
"""(x, y) in pixels. ``[5, 2]``: left eye, right eye, nose tip, left and right mouth corner, as seen; or
``[68, 2]`` or ``[106, 2]`` in the order of `LAYOUTS`."""

REGIONS = ("mouth", "eye", "nose")
"""The regions of the fine labels, in the order of the labels."""

UNTOUCHED = "none"
"""Name of the draw that leaves the face as it is."""

BLEND_RATIOS = (0.75, 1.0, 1.0, 1.0)
WARP_SCALES = (0.04, 0.05)
_GRID = 4  # control points of the warp along each side


class Layout(NamedTuple):
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
    68: Layout((slice(36, 42), slice(42, 48)), 30, (48, 54), slice(48, 68), slice(27, 36)),
    106: Layout((slice(33, 43), slice(87, 97)), 86, (52, 61), slice(52, 72), slice(72, 87)),
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


class Edit(NamedTuple):
    """What a manipulation wants to paste.

    Attributes:
        pixels: the whole image, edited; ``[h, w, 3]``.
        region: where the edit may show.
    """

    pixels: Pixels
    region: Ellipse


class Example(NamedTuple):
    """One pretext example.

    Attributes:
        pixels: ``[h, w, 3]``, the input's shape.
        name: of the manipulation, `UNTOUCHED` if there was none.
        labels: 0 or 1 for each of `REGIONS`.
    """

    pixels: Pixels
    name: str
    labels: tuple[int, int, int]

    @property
    def manipulated(self) -> bool:
        """Truth of the coarse task."""
        return self.name != UNTOUCHED


@dataclass(frozen=True, slots=True)
class Manipulation:
    """A manipulation by name.

    Attributes:
        name: as recipes write it.
        labels: which of `REGIONS` it touches.
        edit: from image, landmarks and generator to what is pasted back.
        blended: whether the blend ratio is drawn from `BLEND_RATIOS`; else it is 1.
    """

    name: str
    labels: tuple[int, int, int]
    edit: Callable[[Pixels, Landmarks, np.random.Generator], Edit]
    blended: bool = True


def five_points(landmarks: Landmarks) -> Landmarks:
    """Eyes, nose tip and mouth corners, ``[5, 2]``, of landmarks of any known layout; five stay as they are.

    Raises:
        DataError: landmarks of another number.
    """
    if landmarks.shape == (5, 2):
        return landmarks
    layout = _layout(landmarks)
    eyes = [landmarks[eye].mean(0) for eye in layout.eyes]
    return np.stack([*eyes, landmarks[layout.nose_tip], *landmarks[list(layout.corners)]])


def _layout(landmarks: Landmarks) -> Layout:
    n_points = landmarks.shape[0]
    if n_points not in LAYOUTS or landmarks.shape != (n_points, 2):
        counts = ", ".join(map(str, _LANDMARK_COUNTS))
        raise DataError(
            f"landmarks of shape {list(landmarks.shape)} are in no known order: "
            f"expected [n, 2] with n one of {counts}; reduce them to five points first"
        )
    return LAYOUTS[n_points]


def face_scale(landmarks: Landmarks) -> float:
    """A length in pixels that stands for the face, about the distance between the eyes seen frontally.

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
    """The ellipse over the points' bounding box and a margin, stretched where a point would lie outside."""
    low, high = points.min(0), points.max(0)
    centre, half = (low + high) / 2, (high - low) / 2 + margin
    half = half * max(1.0, float(np.linalg.norm((points - centre) / half, axis=1).max()))
    return Ellipse(float(centre[0]), float(centre[1]), float(half[0]), float(half[1]))


def mouth_region(landmarks: Landmarks) -> Ellipse:
    """The mouth with a margin of lips' height."""
    scale = face_scale(landmarks)
    if len(landmarks) != 5:
        return _around(landmarks[_layout(landmarks).mouth], _MOUTH_MARGIN * scale)
    x, y = landmarks[3:].mean(0)
    width = abs(float(landmarks[4, 0] - landmarks[3, 0]))
    return Ellipse(float(x), float(y), width / 2 + 0.2 * scale, 0.33 * scale)


def eye_region(landmarks: Landmarks, which: int) -> Ellipse:
    """The left (0) or right (1) eye, without the brow."""
    scale = face_scale(landmarks)
    if len(landmarks) != 5:
        return _around(landmarks[_layout(landmarks).eyes[which]], _EYE_MARGIN * scale)
    x, y = landmarks[which]
    return Ellipse(float(x), float(y), 0.36 * scale, 0.24 * scale)


def visible_eyes(landmarks: Landmarks) -> tuple[int, ...]:
    """The eyes that a turned head does not hide: in a profile the nose stands at one of them, or beyond."""
    left, right, nose = five_points(landmarks)[:3]
    across = right - left
    place = float((nose - left) @ across) / max(
        float(across @ across), 1e-6
    )  # 0 at the left eye, 1 at the right
    return (1,) if place < _HIDDEN else (0,) if place > 1 - _HIDDEN else (0, 1)


def nose_region(landmarks: Landmarks) -> Ellipse:
    """Nose tip, nostrils and the lower half of the bridge."""
    scale = face_scale(landmarks)
    if len(landmarks) != 5:
        layout = _layout(landmarks)
        nose, tip = landmarks[layout.nose], landmarks[layout.nose_tip]
        near = np.linalg.norm(nose - tip, axis=1) <= _NOSE_REACH * scale
        return _around(nose[near], _NOSE_MARGIN * scale)
    x, y = landmarks[2]
    return Ellipse(float(x), float(y) - 0.08 * scale, 0.36 * scale, 0.36 * scale)


def face_region(landmarks: Landmarks) -> Ellipse:
    """From hairline to chin, from cheek to cheek."""
    scale = face_scale(landmarks)
    x, y = five_points(landmarks).mean(0)
    return Ellipse(float(x), float(y), 1.05 * scale, 1.35 * scale)


def bounds(region: Ellipse, shape: tuple[int, ...], margin: float = 1.0) -> tuple[slice, slice]:
    """Rows and columns of the image that hold the region, its half axes stretched by ``margin``."""
    rows = region.y + margin * region.half_height * np.array([-1.0, 1.0])
    columns = region.x + margin * region.half_width * np.array([-1.0, 1.0])
    top, bottom = np.clip(np.round(rows), 0, shape[0]).astype(int)
    left, right = np.clip(np.round(columns), 0, shape[1]).astype(int)
    return slice(top, bottom), slice(left, right)


def soft_mask(region: Ellipse, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Blurred mask of a region, ``[h, w]`` in [0, 1]; exactly 0 outside the ellipse's bounding box.

    The blur is an eighth of the shorter axis, and the ellipse is drawn smaller by as much, so that the
    fade has ended at the border of the box.
    """
    mask = np.zeros(shape[:2], np.float32)
    sigma = max(min(region.half_width, region.half_height) / 8, 0.5)
    axes = (max(round(region.half_width - 2 * sigma), 1), max(round(region.half_height - 2 * sigma), 1))
    cv2.ellipse(mask, (round(region.x), round(region.y)), axes, 0, 0, 360, 1.0, thickness=-1)
    blurred = cv2.GaussianBlur(mask, (0, 0), sigma)
    kept = np.zeros(shape[:2], np.float32)
    box = bounds(region, shape)
    kept[box] = np.clip(blurred[box], 0, 1)
    return kept


def paste(image: Pixels, edit: Edit, ratio: float) -> Pixels:
    """Blend an edit into the image: ``ratio * mask`` of the edit, the rest of the image."""
    alpha = (ratio * soft_mask(edit.region, image.shape))[..., None]
    blended = alpha * edit.pixels + (1 - alpha) * image
    return np.where(alpha > 0, np.round(blended), image).astype(np.uint8)


def _flipped(image: Pixels, region: Ellipse, *, vertical: bool) -> Edit:
    """The region mirrored in place about its own centre."""
    out = image.copy()
    box = bounds(region, image.shape)
    out[box] = image[box][::-1] if vertical else image[box][:, ::-1]
    return Edit(out, region)


def _mouth_flip_vertical(image: Pixels, landmarks: Landmarks, rng: np.random.Generator) -> Edit:
    return _flipped(image, mouth_region(landmarks), vertical=True)


def _mouth_flip_horizontal(image: Pixels, landmarks: Landmarks, rng: np.random.Generator) -> Edit:
    return _flipped(image, mouth_region(landmarks), vertical=False)


def _eye_flip(image: Pixels, landmarks: Landmarks, rng: np.random.Generator) -> Edit:
    which = int(rng.integers(2))
    if which not in visible_eyes(landmarks):
        which = 1 - which
    return _flipped(image, eye_region(landmarks, which), vertical=False)


def _nose_flip(image: Pixels, landmarks: Landmarks, rng: np.random.Generator) -> Edit:
    return _flipped(image, nose_region(landmarks), vertical=False)


def piecewise_affine_field(
    shape: tuple[int, int], scale: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Displacements that are affine on each triangle of a jittered 4 x 4 grid.

    Args:
        shape: height and width in pixels.
        scale: standard deviation of the jitter, as a share of height and width.
        rng: source of the jitter.

    Returns:
        (dx, dy) in pixels, ``[h, w, 2]``.
    """
    height, width = shape
    knots = rng.normal(0, scale, (_GRID, _GRID, 2)) * np.array([width, height], np.float64)
    v = np.linspace(0, _GRID - 1, height)[:, None]
    u = np.linspace(0, _GRID - 1, width)[None, :]
    row = np.minimum(v.astype(int), _GRID - 2)
    column = np.minimum(u.astype(int), _GRID - 2)
    fv, fu = (v - row)[..., None], (u - column)[..., None]
    upper_left, upper_right = knots[row, column], knots[row, column + 1]
    lower_left, lower_right = knots[row + 1, column], knots[row + 1, column + 1]
    upper = upper_left + fu * (upper_right - upper_left) + fv * (lower_left - upper_left)
    lower = lower_right + (1 - fu) * (lower_left - lower_right) + (1 - fv) * (upper_right - lower_right)
    field: NDArray[np.float32] = np.where(fu + fv <= 1, upper, lower).astype(np.float32)
    return field


def _face_warp(image: Pixels, landmarks: Landmarks, rng: np.random.Generator) -> Edit:
    region = face_region(landmarks)
    rows, columns = bounds(region, image.shape)
    patch = image[rows, columns]
    field = piecewise_affine_field(patch.shape[:2], float(rng.uniform(*WARP_SCALES)), rng)
    height, width = patch.shape[:2]
    x = np.arange(width, dtype=np.float32)[None, :] + field[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + field[..., 1]
    out = image.copy()
    out[rows, columns] = cv2.remap(patch, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return Edit(out, region)


def _face_or_frame(image: Pixels, landmarks: Landmarks, rng: np.random.Generator) -> Ellipse:
    """The face or, as often, an ellipse that holds the whole frame: then no seam gives the edit away."""
    if rng.random() < 0.5:
        return face_region(landmarks)
    height, width = image.shape[:2]
    return Ellipse(width / 2, height / 2, 2.0 * width, 2.0 * height)


def _upsampled_twice(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """One decoder stage: every pixel repeated 2 x 2, then a random, nearly binomial 3 x 3 convolution."""
    out = image.repeat(2, 0).repeat(2, 1)
    binomial = np.outer([1, 2, 1], [1, 2, 1]) / 16
    for channel in range(out.shape[2]):
        kernel = binomial + rng.normal(0, 0.04, (3, 3))
        out[..., channel] = cv2.filter2D(out[..., channel], -1, kernel / kernel.sum())
    return out


def _face_decode(image: Pixels, landmarks: Landmarks, rng: np.random.Generator) -> Edit:
    """What an image decoder does to a picture: detail shrunk away, then invented by upsampling stages."""
    height, width = image.shape[:2]
    stages = int(rng.integers(1, 3))
    small = (max(width >> stages, 1), max(height >> stages, 1))
    low = cv2.resize(image, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    decoded = low
    for _ in range(stages):
        decoded = _upsampled_twice(decoded, rng)
    whole = np.asarray(cv2.resize(decoded, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    smooth = np.asarray(cv2.resize(low, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    # Part of the true detail comes back, as from a skip connection: blur alone must not tell.
    whole += rng.uniform(0.1, 0.7) * (image - smooth)
    whole += rng.uniform(0.0, 0.6) * (whole - np.asarray(cv2.GaussianBlur(whole, (0, 0), 1.5), np.float32))
    return Edit(np.clip(np.round(whole), 0, 255).astype(np.uint8), _face_or_frame(image, landmarks, rng))


def _face_smooth(image: Pixels, landmarks: Landmarks, rng: np.random.Generator) -> Edit:
    """Skin without pores: edges kept, fine texture gone."""
    colour, space = float(rng.uniform(15, 45)), float(rng.uniform(1.5, 3))
    smooth = np.asarray(cv2.bilateralFilter(image, 7, colour, space), np.uint8)
    return Edit(smooth, _face_or_frame(image, landmarks, rng))


MANIPULATIONS: dict[str, Manipulation] = {
    m.name: m
    for m in (
        Manipulation("mouth-flip-vertical", (1, 0, 0), _mouth_flip_vertical),
        Manipulation("mouth-flip-horizontal", (1, 0, 0), _mouth_flip_horizontal),
        Manipulation("eye-flip", (0, 1, 0), _eye_flip),
        Manipulation("face-warp", (1, 1, 1), _face_warp, blended=False),
        Manipulation("nose-flip", (0, 0, 1), _nose_flip),
        Manipulation("face-decode", (1, 1, 1), _face_decode, blended=False),
        Manipulation("face-smooth", (1, 1, 1), _face_smooth, blended=False),
    )
}
PAPER = ("mouth-flip-vertical", "mouth-flip-horizontal", "eye-flip", "face-warp")
"""The four of the paper; the others are recipe options."""


def manipulation(name: str) -> Manipulation:
    """Look a manipulation up.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in MANIPULATIONS:
        raise UnknownNameError("manipulation", name, MANIPULATIONS)
    return MANIPULATIONS[name]


def apply(name: str, image: Pixels, landmarks: Landmarks, rng: np.random.Generator) -> Example:
    """Make one manipulation, or none for `UNTOUCHED`. The input is not changed.

    Raises:
        UnknownNameError: there is none of that name.
        DataError: landmarks in no known order.
    """
    if name == UNTOUCHED:
        return Example(image.copy(), UNTOUCHED, (0, 0, 0))
    chosen = manipulation(name)
    edit = chosen.edit(image, landmarks, rng)
    ratio = float(rng.choice(BLEND_RATIOS)) if chosen.blended else 1.0
    return Example(paste(image, edit, ratio), name, chosen.labels)


def draw(
    image: Pixels, landmarks: Landmarks, rng: np.random.Generator, names: Sequence[str] = PAPER
) -> Example:
    """Leave half of the draws as they are and manipulate the others, each of ``names`` equally often.

    Args:
        image: RGB ``[h, w, 3]`` with the face, unchanged.
        landmarks: the face's points in pixels of ``image``.
        rng: the only source of chance: the same state gives the same example.
        names: from `MANIPULATIONS`.

    Raises:
        UnknownNameError: a name is in no registry.
        DataError: landmarks in no known order.
    """
    name = UNTOUCHED if rng.random() < 0.5 else str(rng.choice(list(names)))
    return apply(name, image, landmarks, rng)
