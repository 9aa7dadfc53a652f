"""A perceptual hash: pictures that look alike have hashes that differ in few bits. It reads no file.

It withstands scaling, compression and small changes of light; it is no proof that two pictures are one, and
somebody who wants to can make two different pictures with one hash.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

N_BITS = 64
_SIDE, _KEPT = 32, 8


def perceptual_hash(picture: Image.Image) -> int:
    """Hash the coarse structure of a picture into 64 bits: the signs of its lowest cosine frequencies.

    Each of the 8 x 8 lowest coefficients of the discrete cosine transform of the picture in grey, shrunk to
    32 x 32 pixels, is compared with the median of all but the first.

    Args:
        picture: upright, RGB.

    Returns:
        An integer of 64 bits; a picture of one colour gives 0.
    """
    grey = picture.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(grey, np.float64)
    low = _COSINES @ (pixels - pixels.mean()) @ _COSINES.T
    # Rounded, for in a flat picture nothing but rounding errors is left to compare.
    coefficients = np.round(low, 6).ravel()
    bits = coefficients > np.median(coefficients[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def distance(one: int, other: int) -> int:
    """Count the bits in which two hashes differ, 0 to 64; of unrelated pictures it is about 32."""
    return (one ^ other).bit_count()


def _cosines() -> NDArray[np.float64]:
    steps = np.arange(_SIDE) + 0.5
    return np.cos(np.pi / _SIDE * np.outer(np.arange(_KEPT), steps))


_COSINES = _cosines()
