"""What happens to a face on its way through the world: recompression, rescaling, blur. Crops in, crops out.

Every variant keeps the size of the crop and draws no random number: the same crop always gives the same
crop. JPEG is Pillow's, with 4:2:0 colour; rescaling is bicubic with antialiasing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageFilter

from bladescan.base.errors import UnknownNameError
from bladescan.images.jpeg import encode_jpeg, recompress

Crops = NDArray[np.uint8]
"""uint8 RGB ``[n, h, w, 3]``."""

MATCH_QUALITY = 90
MATCH_PERCENTILE = 10
SMALLEST_MATCH = 64
LARGEST_MATCH = 160
"""Pictures are often enlarged before they are published, and then hold less detail than their pixels promise.
Below this side the finest detail of a crop goes from every set in any case."""


def degrade(crops: Crops, variant: str) -> Crops:
    """Change crops as one of `VARIANTS` does.

    Args:
        crops: ``[n, h, w, 3]``; n may be 0.
        variant: its name.

    Returns:
        A new array of the same shape.

    Raises:
        UnknownNameError: there is no such variant.
    """
    if variant not in VARIANTS:
        raise UnknownNameError("variant", variant, VARIANTS)
    return _each(crops, VARIANTS[variant])


def match(crops: Crops, side: int, quality: int = MATCH_QUALITY, *, out: Crops | None = None) -> Crops:
    """Rescale crops to ``side`` pixels, compress them, and rescale back: what differs above that is gone.

    Args:
        crops: ``[n, h, w, 3]``.
        side: from `match_side`.
        quality: of the JPEG.
        out: where the result goes, ``crops`` itself if they are not needed any more; None for a new array.

    Returns:
        Crops of the same shape.
    """
    return _each(crops, partial(_matched, side=side, quality=quality), out)


def match_side(crop_sides: Iterable[ArrayLike]) -> int:
    """Find the side that nearly all crops of every set had at least, before they were resized.

    Args:
        crop_sides: of each set (the photographs, each generator) those of its faces in pixels of the images,
            ``[n]``, n >= 1. Sets stand apart, for a small one would not count among many large faces.

    Returns:
        The smallest of their 10th percentiles, kept between `SMALLEST_MATCH` and `LARGEST_MATCH`.
    """
    side = min(float(np.percentile(np.asarray(sides), MATCH_PERCENTILE)) for sides in crop_sides)
    return min(max(round(side), SMALLEST_MATCH), LARGEST_MATCH)


def compressed_sizes(crops: Crops, quality: int = MATCH_QUALITY) -> NDArray[np.int64]:
    """Count the bytes of a JPEG of each crop, ``[n]``: how much detail there is, and nothing else."""
    sizes = [len(encode_jpeg(Image.fromarray(crop), quality)) for crop in crops]
    return np.asarray(sizes, np.int64)


def _each(crops: Crops, change: Callable[[Image.Image], Image.Image], out: Crops | None = None) -> Crops:
    changed = np.empty_like(crops) if out is None else out
    pictures, places = (stack.reshape(-1, *stack.shape[-3:]) for stack in (crops, changed))
    for place, crop in zip(places, pictures, strict=True):
        place[:] = np.asarray(change(Image.fromarray(crop)))
    return changed


def _unchanged(image: Image.Image) -> Image.Image:
    return image


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.BICUBIC)


def _scaled(image: Image.Image, factor: float) -> Image.Image:
    return _resized(image, (max(1, round(image.width * factor)), max(1, round(image.height * factor))))


def _half(image: Image.Image) -> Image.Image:
    return _resized(_scaled(image, 0.5), image.size)


def _blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1.0))


def _social(image: Image.Image) -> Image.Image:
    uploaded = recompress(_scaled(image, 0.6), 80)
    return recompress(_resized(uploaded, image.size), 70)


def _matched(image: Image.Image, side: int, quality: int) -> Image.Image:
    return _resized(recompress(_resized(image, (side, side)), quality), image.size)


VARIANTS: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "none": _unchanged,
    "jpeg-95": partial(recompress, quality=95),
    "jpeg-85": partial(recompress, quality=85),
    "jpeg-75": partial(recompress, quality=75),
    "half": _half,
    "blur": _blurred,
    "social": _social,
}
"""By name, as crops are before any of them first."""

VARIANT_WORDS = {
    "none": "as it is",
    "jpeg-95": "JPEG of quality 95",
    "jpeg-85": "JPEG of quality 85",
    "jpeg-75": "JPEG of quality 75",
    "half": "shrunk to a half and back",
    "blur": "Gaussian blur of 1 pixel",
    "social": "posted (0.6, JPEG 80, 70)",
}
"""What each of `VARIANTS` does, in a few words for a plot."""
