"""A picture as Pillow holds it or as an array: its size, and how it looks when it is turned upright."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bladescan.base.records import FaceBox

Pixels = NDArray[np.uint8]
AnyImage = Image.Image | Pixels
"""RGB, as Pillow holds it or as an array ``[h, w, 3]``: each form is used as it is where it can be."""
Size = tuple[int, int]
"""Width and height in pixels."""
Corners = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""

_Picture = TypeVar("_Picture", Image.Image, Pixels)

_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
"""Pillow counts anticlockwise."""


def image_size(image: AnyImage) -> Size:
    """Give width and height."""
    return image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])


def as_pillow(image: AnyImage) -> Image.Image:
    """Give a picture as Pillow holds it."""
    return image if isinstance(image, Image.Image) else Image.fromarray(image)


def upright(image: _Picture, rotation: int) -> _Picture:
    """Turn a picture back by as many degrees as its faces are turned clockwise; pixels only change places.

    Args:
        image: RGB; of an array a view is returned.
        rotation: 0, 90, 180 or 270.
    """
    if not rotation:
        return image
    if isinstance(image, Image.Image):
        return image.transpose(_TURNS[rotation])
    return np.rot90(image, rotation // 90)


def upright_size(size: Size, rotation: int) -> Size:
    """Give width and height of a picture that is turned upright."""
    return size if rotation % 180 == 0 else (size[1], size[0])


def upright_corners(corners: Corners, size: Size, rotation: int) -> Corners:
    """Say where a rectangle of a picture of this size lies when the picture is turned upright."""
    (ax, ay), (bx, by) = (_upright_point(*corner, size, rotation) for corner in (corners[:2], corners[2:]))
    return min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)


def upright_box(box: FaceBox, size: Size, rotation: int) -> FaceBox:
    """Say where a face lies when its picture, of this size, is turned upright; its own turn is less then."""
    corners = upright_corners((box.x0, box.y0, box.x1, box.y1), size, rotation)
    points = box.landmarks
    if points is not None:
        points = tuple(_upright_point(x, y, size, rotation) for x, y in points)
    left = (box.rotation - rotation) % 360
    x0, y0, x1, y1 = corners
    return replace(box, x0=x0, y0=y0, x1=x1, y1=y1, landmarks=points, rotation=left)


def turned_box(box: FaceBox, size: Size, rotation: int) -> FaceBox:
    """Say where a face of an upright picture lies once that is turned clockwise: `upright_box` undone.

    Args:
        box: in the upright picture.
        size: of the picture that is turned, which ``box`` does not lie in.
        rotation: 0, 90, 180 or 270.
    """
    return upright_box(box, upright_size(size, rotation), -rotation % 360)


def _upright_point(x: float, y: float, size: Size, rotation: int) -> tuple[float, float]:
    width, height = size
    match rotation:
        case 90:
            return y, width - x
        case 180:
            return width - x, height - y
        case 270:
            return height - y, x
    return x, y
