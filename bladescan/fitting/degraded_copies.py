"""Degraded copies of face crops: from them heads learn that size and compression say nothing of the class."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bladescan.images.jpeg import recompress_pixels

Crops = NDArray[np.uint8]
"""uint8 RGB ``[n, h, w, 3]``."""

_SMALLEST = 0.4
"""Share of the side that a copy keeps at least: 90 of 224 pixels."""
_QUALITIES = (55, 96)
_SHRINKERS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
_GROWERS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


def degraded_copies(crops: Crops, rng: np.random.Generator) -> Crops:
    """Degrade copies as sharing does: mostly smaller once, mostly compressed, some mirrored.

    Args:
        crops: ``[n, h, w, 3]``; n may be 0.
        rng: the only source of chance.

    Returns:
        A new array of the same shape.
    """
    return np.asarray([_degraded(crop, rng) for crop in crops], np.uint8).reshape(crops.shape)


def _degraded(crop: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width = crop.shape[:2]
    share = rng.uniform(_SMALLEST, 1) if rng.random() < 0.7 else 1.0
    size = (max(1, round(width * share)), max(1, round(height * share)))
    small = cv2.resize(crop, size, interpolation=_SHRINKERS[rng.integers(len(_SHRINKERS))])
    if rng.random() < 0.8:
        small = recompress_pixels(np.asarray(small, np.uint8), int(rng.integers(*_QUALITIES)))
    grown = cv2.resize(small, (width, height), interpolation=_GROWERS[rng.integers(len(_GROWERS))])
    return np.asarray(grown[:, ::-1] if rng.random() < 0.5 else grown, np.uint8)
