"""Artificial face manipulations and their labels: photographs in, pretext examples out.

Nothing here finds a face: `face_regions` builds the regions from landmarks. And nothing here augments:
compression, rescaling and cropping, which must befall untouched and manipulated faces alike, are
`bladescan.pretext.examples`.

Flips permute pixels along the image axes and leave no trace of resampling; what gives them away is
anatomy, light and the seam. Every manipulation is pasted back through a blurred mask, and pixels where
that mask is zero keep their value bit for bit.

References:
    Zou et al., arXiv:2507.22824, section 3; the released preprocessing code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import UnknownNameError
from bladescan.pretext.face_regions import (
    Ellipse,
    Landmarks,
    bounding_box,
    eye_region,
    face_region,
    mouth_region,
    nose_region,
    visible_eyes,
)

Pixels = NDArray[np.uint8]
"""RGB, ``[h, w, 3]``."""

REGIONS = ("mouth", "eye", "nose")
"""The regions of the fine labels, in the order of the labels."""

UNTOUCHED = "none"
"""Name of the draw that leaves the face as it is."""

AUTOENCODE = "autoencode"
"""The manipulation that needs networks: `bladescan.pretext.reconstruction` makes it, in pairs alone."""

BLEND_RATIOS = (0.75, 1.0, 1.0, 1.0)
WARP_SCALES = (0.04, 0.05)
_GRID = 4  # control points of the warp along each side


class Edit(NamedTuple):
    """An edited image, and where the edit may show.

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


def soft_mask(region: Ellipse, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw the blurred mask of a region, ``[h, w]`` in [0, 1]; exactly 0 outside its bounding box.

    The blur is an eighth of the shorter axis, and the ellipse is drawn smaller by as much, so that the
    fade has ended at the border of the box.
    """
    mask = np.zeros(shape[:2], np.float32)
    sigma = max(min(region.half_width, region.half_height) / 8, 0.5)
    axes = (max(round(region.half_width - 2 * sigma), 1), max(round(region.half_height - 2 * sigma), 1))
    cv2.ellipse(mask, (round(region.x), round(region.y)), axes, 0, 0, 360, 1.0, thickness=-1)
    blurred = cv2.GaussianBlur(mask, (0, 0), sigma)
    kept = np.zeros(shape[:2], np.float32)
    box = bounding_box(region, shape)
    kept[box] = np.clip(blurred[box], 0, 1)
    return kept


def paste(image: Pixels, edit: Edit, ratio: float) -> Pixels:
    """Blend an edit into the image: ``ratio * mask`` of the edit, the rest of the image."""
    alpha = (ratio * soft_mask(edit.region, image.shape))[..., None]
    blended = alpha * edit.pixels + (1 - alpha) * image
    return np.where(alpha > 0, np.round(blended), image).astype(np.uint8)


def _flipped(image: Pixels, region: Ellipse, *, vertical: bool) -> Edit:
    """Mirror the region in place about its own centre."""
    out = image.copy()
    box = bounding_box(region, image.shape)
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
    """Draw displacements that are affine on each triangle of a jittered 4 x 4 grid.

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
    rows, columns = bounding_box(region, image.shape)
    patch = image[rows, columns]
    field = piecewise_affine_field(patch.shape[:2], float(rng.uniform(*WARP_SCALES)), rng)
    height, width = patch.shape[:2]
    x = np.arange(width, dtype=np.float32)[None, :] + field[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + field[..., 1]
    out = image.copy()
    out[rows, columns] = cv2.remap(patch, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return Edit(out, region)


def face_or_frame(image: Pixels, landmarks: Landmarks, rng: np.random.Generator) -> Ellipse:
    """Choose the face or, as often, an ellipse around the whole frame: then no seam gives the edit away."""
    if rng.random() < 0.5:
        return face_region(landmarks)
    height, width = image.shape[:2]
    return Ellipse(width / 2, height / 2, 2.0 * width, 2.0 * height)


def _upsampled_twice(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Imitate a decoder stage: every pixel 2 x 2 times, then a random, nearly binomial 3 x 3 convolution."""
    out = image.repeat(2, 0).repeat(2, 1)
    binomial = np.outer([1, 2, 1], [1, 2, 1]) / 16
    for channel in range(out.shape[2]):
        kernel = binomial + rng.normal(0, 0.04, (3, 3))
        out[..., channel] = cv2.filter2D(out[..., channel], -1, kernel / kernel.sum())
    return out


def _face_decode(image: Pixels, landmarks: Landmarks, rng: np.random.Generator) -> Edit:
    """Imitate an image decoder: shrink detail away, then invent it in upsampling stages."""
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
    return Edit(np.clip(np.round(whole), 0, 255).astype(np.uint8), face_or_frame(image, landmarks, rng))


def _face_smooth(image: Pixels, landmarks: Landmarks, rng: np.random.Generator) -> Edit:
    """Smooth the skin: edges are kept, fine texture goes."""
    colour, space = float(rng.uniform(15, 45)), float(rng.uniform(1.5, 3))
    smooth = np.asarray(cv2.bilateralFilter(image, 7, colour, space), np.uint8)
    return Edit(smooth, face_or_frame(image, landmarks, rng))


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
