"""A face and its reconstruction by an autoencoder: a pair that differs by the decoder's trace alone.

Both members are of one size, which is drawn, so that the grid of the decoder falls on every scale; and of
one sharpness: the photograph is blurred to that of its reconstruction, and both may then be sharpened alike.
What befalls both alike afterwards is `bladescan.pretext.examples`.

References:
    Rajan et al., "Aligned Datasets Improve Detection of Latent Diffusion-Generated Images", ICLR 2025
    (pairs by reconstruction); Chen et al., "Dual Data Alignment", 2025 (size, compression and frequency
    aligned as well).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from bladescan.pretext.autoencoders import Autoencoders, resized
from bladescan.pretext.face_regions import Landmarks
from bladescan.pretext.manipulations import (
    AUTOENCODE,
    BLEND_RATIOS,
    UNTOUCHED,
    Edit,
    Example,
    Pixels,
    face_or_frame,
    paste,
)
from bladescan.tasks.recipe import AutoencodeRecipe

MULTIPLE = 16
"""Height and width of what is reconstructed are multiples of this many pixels, or of what the graph wants."""

_MOST_SOFTENING, _MOST_GAIN = 4.0, 3.0
_BISECTIONS = 7


class ReconstructedPair(NamedTuple):
    """A face twice, and where it is in both.

    Attributes:
        untouched: not reconstructed.
        reconstructed: the face, or all of it.
        zoom: from the stored picture's pixels to these, horizontally and vertically.
    """

    untouched: Example
    reconstructed: Example
    zoom: tuple[float, float]


def reconstructed_pair(
    pixels: Pixels,
    landmarks: Landmarks,
    autoencoders: Autoencoders,
    recipe: AutoencodeRecipe,
    rng: np.random.Generator,
) -> ReconstructedPair:
    """Make a face and its reconstruction.

    Args:
        pixels: RGB with context ``[h, w, 3]``, unchanged.
        landmarks: of the face in it.
        autoencoders: one is drawn.
        recipe: ranges and probabilities.
        rng: the only source of chance.
    """
    which = int(rng.integers(len(autoencoders)))
    multiple = max(MULTIPLE, autoencoders.multiple(which))  # both are powers of two
    small = _at_drawn_size(pixels, recipe.side, multiple, rng)
    again = autoencoders.reconstruct(which, small)
    if rng.random() < recipe.equal_sharpness:
        small, again = equally_sharp(small, again, rng)
    zoom = small.shape[1] / pixels.shape[1], small.shape[0] / pixels.shape[0]
    region = face_or_frame(small, landmarks * np.array(zoom, np.float32), rng)
    made = paste(small, Edit(again, region), float(rng.choice(BLEND_RATIOS)))
    return ReconstructedPair(Example(small, UNTOUCHED, (0, 0, 0)), Example(made, AUTOENCODE, (1, 1, 1)), zoom)


def equally_sharp(photograph: Pixels, again: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Bring a photograph and its reconstruction to one sharpness.

    The photograph is made as blurred as the reconstruction, by a Gaussian or through a smaller size; then, as
    often as not, both are sharpened by one drawn gain: sharp or soft, with halos or without says nothing.
    """
    way = _blurred if rng.random() < 0.5 else _through_smaller
    gain = rng.uniform(0, _MOST_GAIN) if rng.random() < 0.5 else 0.0
    softened = _as_sharp(photograph, sharpness(again), way)
    return (_sharpened(softened, gain), _sharpened(again, gain)) if gain else (softened, again)


def sharpness(pixels: Pixels) -> float:
    """Measure the mean absolute Laplacian of the luminance."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())


def _as_sharp(pixels: Pixels, wanted: float, soften: Callable[[Pixels, float], Pixels]) -> Pixels:
    """Find by bisection how much softening leaves a sharpness; none if there is not more of it."""
    if sharpness(pixels) <= wanted:
        return pixels
    low, high = 0.0, _MOST_SOFTENING
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if sharpness(soften(pixels, middle)) > wanted else (low, middle)
    return soften(pixels, (low + high) / 2)


def _blurred(pixels: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), max(sigma, 1e-3)), np.uint8)


def _through_smaller(pixels: Pixels, amount: float) -> Pixels:
    height, width = pixels.shape[:2]
    small = resized(pixels, max(round(width / (1 + amount)), 1), max(round(height / (1 + amount)), 1))
    return resized(small, width, height)


def _sharpened(pixels: Pixels, gain: float) -> Pixels:
    soft = cv2.GaussianBlur(pixels, (0, 0), 1.0).astype(np.float32)
    return np.clip(np.round(pixels + gain * (pixels - soft)), 0, 255).astype(np.uint8)


def _at_drawn_size(pixels: Pixels, sides: tuple[int, int], multiple: int, rng: np.random.Generator) -> Pixels:
    """Resize so that the longer side is between the two, to multiples of what a decoder needs."""
    longer = float(np.exp(rng.uniform(*np.log(sides))))
    zoom = longer / max(pixels.shape[:2])
    height, width = (multiple * max(round(zoom * n / multiple), 1) for n in pixels.shape[:2])
    return resized(pixels, width, height)
