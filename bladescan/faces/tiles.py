"""A whole picture as crops: tiles of its own pixels, the one in its centre, or its middle square made small.

A tile is cut and not resized, if it has the size of a crop: what generators leave in single pixels does not
outlast resizing. Tiles lie on a grid spread evenly over the picture, from border to border, and never
overlap; their corners are multiples of 8 pixels from the upper left, as the blocks of JPEG are. A picture
that is smaller than a tile is continued by its mirror image to the right and below.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from bladescan.base.records import CROP_SIZE
from bladescan.detectors.manifest import PictureRule
from bladescan.faces.crops import resample
from bladescan.faces.pictures import AnyImage, Corners, Pixels, Size, as_pillow, image_size
from bladescan.faces.views import square_views

GRID = 8
"""Pixels: side of the blocks of JPEG, to which tiles keep."""
_AROUND = 32
"""Pixels that a part has around its tile, for the views; it begins at a multiple of half of them."""


class Tiles(NamedTuple):
    """The crops of a picture.

    Attributes:
        crops: uint8 ``[n, 224, 224, 3]``.
        views: uint8 ``[n_views, n, 224, 224, 3]``, see `bladescan.faces.views`; None where none are wanted.
        coverage: pixels of the crops over those of the picture, before anything is resized: below 1 where the
            picture was not seen whole, above 1 where it was mirrored to fill a tile.
    """

    crops: Pixels
    views: Pixels | None
    coverage: float


def cut_tiles(image: AnyImage, rule: PictureRule, most: int, *, views: bool = False) -> Tiles:
    """Cut the crops out of one picture.

    Args:
        image: RGB, oriented.
        rule: of the detector.
        most: crops at most, of the rule's or fewer.
        views: make the views of each crop as well.
    """
    width, height = image_size(image)
    squares = picture_squares((width, height), rule, most)
    picture = as_pillow(image)
    parts = [_continued(picture, square) for square in squares]
    crops = np.stack([resample(*part, CROP_SIZE, 0, "antialias") for part in parts])
    viewed = np.stack([square_views(*part, 0, "antialias") for part in parts], 1) if views else None
    seen = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in squares)
    return Tiles(crops, viewed, seen / (width * height))


def picture_squares(size: Size, rule: PictureRule, most: int) -> list[Corners]:
    """Place the squares of a picture; they reach past its border only where it is smaller than a tile."""
    width, height = size
    if rule.view == "square":
        side = min(size)
        x, y = (width - side) // 2, (height - side) // 2
        return [(float(x), float(y), float(x + side), float(y + side))]
    if rule.view == "centre" or most == 1:
        columns, rows = ([_on_grid(max(0, side - rule.tile) / 2)] for side in size)
    else:
        across, down = _grid(size, rule.tile, most)
        columns, rows = _spread(width, rule.tile, across), _spread(height, rule.tile, down)
    return [(float(x), float(y), float(x + rule.tile), float(y + rule.tile)) for y in rows for x in columns]


def _grid(size: Size, tile: int, most: int) -> tuple[int, int]:
    """Choose columns and rows: those that leave the smallest gaps, of equals the most tiles."""
    width, height = size
    fit_across, fit_down = max(1, width // tile), max(1, height // tile)
    choices = [(across, min(fit_down, most // across)) for across in range(1, min(fit_across, most) + 1)]
    return min(choices, key=lambda grid: (max(width / grid[0], height / grid[1]), -grid[0] * grid[1]))


def _spread(side: int, tile: int, n: int) -> list[int]:
    """Place ``n`` tiles along a side, from border to border; one alone in the middle."""
    if n == 1:
        return [_on_grid(max(0, side - tile) / 2)]
    return [_on_grid(place * (side - tile) / (n - 1)) for place in range(n)]


def _on_grid(place: float) -> int:
    return int(place // GRID) * GRID


def _continued(picture: Image.Image, square: Corners) -> tuple[Image.Image, Corners]:
    """Give a picture that holds a square whole, and the square in it: the picture, or a part continued.

    Only the part is copied: a strip one pixel high may be a hundred million wide.
    """
    x0, y0, x1, y1 = map(int, square)
    right, below = max(0, x1 - picture.width), max(0, y1 - picture.height)
    if not (right or below):
        return picture, square
    half = _AROUND // 2
    left, top = (max(0, (start - _AROUND) // half * half) for start in (x0, y0))
    part = picture.crop((left, top, min(x1 + _AROUND, picture.width), min(y1 + _AROUND, picture.height)))
    pixels = np.pad(np.asarray(part), [(0, below), (0, right), (0, 0)], mode="reflect")
    return Image.fromarray(pixels), (square[0] - left, square[1] - top, square[2] - left, square[3] - top)
