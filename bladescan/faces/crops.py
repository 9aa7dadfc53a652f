"""How a face becomes a crop: where the square is cut, and how its pixels become those of the crop.

See docs/faces.md for why it is cut as it is. Shape letters: h, w image height and width.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bladescan.base.records import CROP_SIZE, FaceBox
from bladescan.detectors.manifest import FACE_RULE, FaceRule, Resize
from bladescan.faces.pictures import (
    AnyImage,
    Corners,
    Pixels,
    Size,
    image_size,
    upright,
    upright_box,
    upright_corners,
    upright_size,
)


def crop_face(
    image: AnyImage,
    box: FaceBox,
    rule: FaceRule = FACE_RULE,
    *,
    size: int = CROP_SIZE,
) -> Pixels:
    """Cut out the square crop ``[size, size, 3]`` of one face, upright; see `crop_square` for where.

    The crop of a turned face is, pixel for pixel, that of the picture turned so that the face stands upright.
    With the rule's ``antialias`` every pixel of the square counts. With ``bilinear`` a pixel of the crop is
    mixed from four of the image however large the square is, as the authors of BLADES resize a tensor of
    pixels: for encoders that learned so.
    """
    whole, turn = image_size(image), box.rotation
    square = crop_square(upright_box(box, whole, turn), *upright_size(whole, turn), rule)
    return resample(image, square, size, turn, rule.resize)


def crop_square(box: FaceBox, width: int, height: int, rule: FaceRule = FACE_RULE) -> Corners:
    """Place the square of a face inside an image of ``width`` x ``height``: its corners (x0, y0, x1, y1).

    It is centred on the box with side ``rule.scale * max(box width, box height)``. Where it would leave the
    image it is moved back inside, and made smaller only if it is larger than the image: a clipped rectangle
    stretched to a square would distort the face, and padding would add an edge that no camera made; both
    would tell where in its image a face stood.
    """
    side = crop_side(box, width, height, rule)
    x0 = min(max((box.x0 + box.x1 - side) / 2, 0.0), width - side)
    y0 = min(max((box.y0 + box.y1 - side) / 2, 0.0), height - side)
    return x0, y0, min(x0 + side, float(width)), min(y0 + side, float(height))


def part_in_picture(box: FaceBox | None, size: Size, rule: FaceRule, shares: Corners) -> Corners:
    """Say where a part of a face's crop lies in its picture, in pixels.

    Args:
        box: the face, None for an image that is a crop.
        size: of the picture, width and height.
        rule: how the box became the crop.
        shares: corners of the part as shares of the crop's side, in [0, 1].
    """
    turn = 0 if box is None else box.rotation
    whole = upright_size(size, turn)
    square: Corners = (0.0, 0.0, float(whole[0]), float(whole[1]))
    if box is not None:
        square = crop_square(upright_box(box, size, turn), *whole, rule)
    x0, y0, x1, y1 = square
    wide, high = x1 - x0, y1 - y0
    left, top, right, bottom = shares
    part = (x0 + left * wide, y0 + top * high, x0 + right * wide, y0 + bottom * high)
    return upright_corners(part, whole, -turn % 360)


def crop_side(box: FaceBox | None, width: int, height: int, rule: FaceRule = FACE_RULE) -> float:
    """Measure the side of that square, in pixels of the image; without a box the image is a crop itself."""
    longest = float(min(width, height))
    return longest if box is None else min(max(rule.scale * box.side, 1.0), longest)


def whole_crop(image: AnyImage, rule: FaceRule = FACE_RULE, *, size: int = CROP_SIZE) -> Pixels:
    """Take the whole image as one crop ``[size, size, 3]``; one that is not square is squeezed."""
    width, height = image_size(image)
    return resample(image, (0.0, 0.0, float(width), float(height)), size, 0, rule.resize)


def resample(image: AnyImage, corners: Corners, size: int, turn: int, resize: Resize) -> Pixels:
    """Make a crop ``[size, size, 3]`` of a rectangle of the upright picture, see `FaceRule`."""
    return _RESAMPLE[resize](image, corners, size, turn)


def part_of(image: AnyImage, corners: Corners, turn: int) -> tuple[Image.Image, Corners]:
    """Cut out the pixels that a rectangle of the upright picture touches; also its corners within them.

    The part is turned upright, not the picture: a face is a small share of twelve megapixels.
    """
    x0, y0, x1, y1 = corners
    touched = int(x0), int(y0), int(np.ceil(x1)), int(np.ceil(y1))
    within = (x0 - touched[0], y0 - touched[1], x1 - touched[0], y1 - touched[1])
    back = -turn % 360
    lying = upright_corners(touched, upright_size(image_size(image), turn), back)
    left, top, right, bottom = map(int, lying)
    if isinstance(image, Image.Image):
        return upright(image.crop((left, top, right, bottom)), turn), within
    return Image.fromarray(np.ascontiguousarray(upright(image[top:bottom, left:right], turn))), within


def _antialias(image: AnyImage, corners: Corners, size: int, turn: int) -> Pixels:
    # Bilinear with its support widened when shrinking (antialiased): the kernel is never negative, so it
    # draws no halos around edges, and it is fixed-point arithmetic in Pillow, the same on every machine.
    part, within = part_of(image, corners, turn)
    return np.asarray(part.resize((size, size), Image.Resampling.BILINEAR, box=within))


def _bilinear(image: AnyImage, corners: Corners, size: int, turn: int) -> Pixels:
    # What torch's interpolate(mode="bilinear", align_corners=False) gives, rounded to whole grey levels.
    x0, y0, x1, y1 = corners
    left, right, across = _neighbours(x0, x1, size)
    upper, lower, down = _neighbours(y0, y1, size)
    pixels = np.asarray(part_of(image, corners, turn)[0])

    def mixed(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        line = pixels[rows]
        start = line[:, left].astype(np.float32)
        return start + (line[:, right] - start) * across[:, None]

    top = mixed(upper)
    blended = top + (mixed(lower) - top) * down[:, None, None]
    return np.rint(blended).astype(np.uint8)


def _neighbours(
    start: float, stop: float, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Along one axis: the two pixels that each pixel of the crop lies between, and the second one's share.

    The pixels are counted from the first one that the rectangle touches.
    """
    centres = start + (np.arange(size) + 0.5) * ((stop - start) / size) - 0.5
    centres = centres.clip(int(start), np.ceil(stop) - 1)
    first = np.floor(centres).astype(np.int64)
    second = np.minimum(first + 1, int(np.ceil(stop)) - 1)
    return first - int(start), second - int(start), (centres - first).astype(np.float32)


_RESAMPLE: dict[Resize, Callable[[AnyImage, Corners, int, int], Pixels]] = {
    "antialias": _antialias,
    "bilinear": _bilinear,
}
