"""Searching one image for faces at several sizes, whatever finds them in a picture.

How the looks and thresholds here were chosen stands in docs/faces.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from bladescan.base.records import FaceBox
from bladescan.faces.pictures import AnyImage, Size, image_size
from bladescan.faces.suppression import suppress

Look = Callable[[Image.Image], list[FaceBox]]
"""The faces in one picture, in its pixels."""

LOOKS = (320, 640)
"""Long sides in pixels at which an image is searched; the second only where the first leaves doubt."""
CLEAR_SHARE = 0.2
"""A face this large, as a share of the image's long side, ends the search after the first look."""
WIDE = 2.5
"""A picture this elongated (long by short side) is searched once more, with as many pixels as a square."""

_SAME_FACE = 0.4  # intersection over union from which two boxes of two looks are one face
_GLANCE_SHARE = 0.45
_REDUCING_GAP = 1.5  # averaging leaves at least so many times the pixels that are wanted


def search(image: AnyImage, look: Look, looks: Sequence[int], min_face: int) -> list[FaceBox]:
    """Search at each long side of ``looks`` until a large face is found; if there is none, once more padded.

    The small pictures make large faces quick to find; the large one shows small faces. A face that fills the
    frame, or is cut by it, is missed at any size, but found once there is a margin around it.
    """
    size = image_size(image)
    long_side = max(size)
    if long_side < min_face:
        return []
    sides = _long_sides(size, looks)
    picture = as_picture(image)
    if _is_elongated(size):  # many looks for its pixels: they share the first step of shrinking
        picture = picture.reduce(max(1, long_side // sides[-1]))
    found: list[FaceBox] = []
    for side in sides:
        found = distinct(found + _look_at(fit(picture, side), size, look))
        if found and max(box.side for box in found) >= CLEAR_SHARE * long_side:
            break
    if not found:
        margin = looks[0] // 4
        found = _look_at(fit(picture, looks[0] - 2 * margin), size, look, margin)
    return [box for box in found if box.side >= min_face]


def glance_side(size: Size, looks: Sequence[int]) -> int:
    """Measure the long side, in pixels, of a small copy that costs a fifth of the largest look.

    It is a multiple of 32, to which yunet would fill it up.
    """
    return max(int(_GLANCE_SHARE * _long_sides(size, looks)[-1]) // 32, 1) * 32


def _long_sides(size: Size, looks: Sequence[int]) -> list[int]:
    """Choose the long sides at which a picture is searched; enlarging shows nothing new after the first."""
    long_side = max(size)
    sides = [looks[0], *(min(side, long_side) for side in looks[1:] if long_side > looks[0])]
    if _is_elongated(size):
        sides.append(min(round(looks[-1] * (long_side / min(size)) ** 0.5), long_side))
    return [side for index, side in enumerate(sides) if index == 0 or side > sides[index - 1]]


def _is_elongated(size: Size) -> bool:
    return max(size) >= WIDE * min(size)


def as_picture(image: AnyImage) -> Image.Image:
    """Hold an image as Pillow does."""
    return image if isinstance(image, Image.Image) else Image.fromarray(image)


def _look_at(small: Image.Image, size: Size, look: Look, margin: int = 0) -> list[FaceBox]:
    """Look at a small copy of a picture of this size; boxes in pixels of the picture."""
    scale_x, scale_y = size[0] / small.width, size[1] / small.height
    return [_mapped(box, margin, scale_x, scale_y) for box in look(_with_margin(small, margin))]


def _with_margin(picture: Image.Image, margin: int) -> Image.Image:
    """Repeat the border of a picture outwards."""
    # A strip one pixel wide would make an input smaller than the networks' receptive field.
    width, height = max(0, 32 - picture.width), max(0, 32 - picture.height)
    if not (margin or width or height):
        return picture
    pads = [(margin, margin + height), (margin, margin + width), (0, 0)]
    return Image.fromarray(np.pad(np.asarray(picture), pads, mode="edge"))


def fit(picture: Image.Image, long_side: int) -> Image.Image:
    """Resize a picture to a long side in pixels."""
    scale = long_side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if size == picture.size:
        return picture
    # Averaging whole blocks first is quicker, and exact enough to search in.
    return picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=_REDUCING_GAP)


def _mapped(box: FaceBox, margin: float, scale_x: float, scale_y: float) -> FaceBox:
    def point(x: float, y: float) -> tuple[float, float]:
        return (x - margin) * scale_x, (y - margin) * scale_y

    points = None if box.landmarks is None else tuple(point(x, y) for x, y in box.landmarks)
    return FaceBox(*point(box.x0, box.y0), *point(box.x1, box.y1), box.score, points)


def distinct(boxes: list[FaceBox]) -> list[FaceBox]:
    """Sort boxes by score, highest first, and drop those that overlap a better one."""
    ordered = surest_first(boxes)
    corners = np.array([(box.x0, box.y0, box.x1, box.y1) for box in ordered], np.float64).reshape(-1, 4)
    return [ordered[index] for index in suppress(corners, _SAME_FACE)]


def surest_first(boxes: list[FaceBox]) -> list[FaceBox]:
    """Sort boxes by score, highest first, whatever their order was."""
    return sorted(boxes, key=lambda box: (-box.score, -box.side, box.x0, box.y0))


def overlapping(a: FaceBox, b: FaceBox) -> float:
    """Measure what two boxes have in common, as a share of the smaller one."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    smaller = min((box.x1 - box.x0) * (box.y1 - box.y0) for box in (a, b))
    return max(width, 0.0) * max(height, 0.0) / smaller if smaller > 0 else 0.0
