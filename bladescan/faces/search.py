"""Searching one image for faces at several sizes, whatever finds them in a picture.

How the looks and thresholds here were chosen stands in docs/faces.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from bladescan.base.records import FaceBox
from bladescan.faces.crops import AnyImage, image_size
from bladescan.faces.suppression import suppress

Look = Callable[[Image.Image], list[FaceBox]]
"""The faces in one picture, in its pixels."""

LOOKS = (320, 640)
"""Long sides in pixels at which an image is searched; the second only where the first leaves doubt."""
CLEAR_SHARE = 0.2
"""A face this large, as a share of the image's long side, ends the search after the first look."""

_SAME_FACE = 0.4  # intersection over union from which two boxes of two looks are one face
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
    whole = picture = _picture(image)
    found: list[FaceBox] = []
    for side in looks:
        if side > looks[0]:
            if long_side <= looks[0]:
                break
            side = min(side, long_side)  # enlarging shows nothing new
            picture = _fit(whole, side)
        found = distinct(found + _look_at(picture, size, look, side))
        if found and max(box.side for box in found) >= CLEAR_SHARE * long_side:
            break
    if not found:
        found = _look_at(picture, size, look, looks[0], margin=looks[0] // 4)
    return [box for box in found if box.side >= min_face]


def _picture(image: AnyImage) -> Image.Image:
    return image if isinstance(image, Image.Image) else Image.fromarray(image)


def _look_at(
    picture: Image.Image, size: tuple[int, int], look: Look, side: int, margin: int = 0
) -> list[FaceBox]:
    # ``picture`` is the image of this size or a smaller copy, ``side`` the long side with its margins.
    small = _fit(picture, side - 2 * margin)
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


def _fit(picture: Image.Image, long_side: int) -> Image.Image:
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
    ordered = sorted(boxes, key=lambda box: (-box.score, -box.side, box.x0, box.y0))
    corners = np.array([(box.x0, box.y0, box.x1, box.y1) for box in ordered], np.float64).reshape(-1, 4)
    return [ordered[index] for index in suppress(corners, _SAME_FACE)]
