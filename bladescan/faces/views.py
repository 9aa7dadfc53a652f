"""A face as it would look after its picture was shipped once more: harmless changes.

Each view is a crop like that of `bladescan.faces.crops.crop_face`, of the pixels around the face after: JPEG
at quality 85 (on the grid of blocks that the whole picture would have), halving its size and doubling it
again, or cutting the square out 5% further left, right, up or down.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from bladescan.base.records import CROP_SIZE, FaceBox
from bladescan.detectors.manifest import FACE_RULE, FaceRule, Resize
from bladescan.faces.crops import crop_square, part_of, resample
from bladescan.faces.pictures import AnyImage, Corners, Pixels, image_size, upright_box, upright_size

VIEWS = ("jpeg-85", "half-size", "left", "right", "up", "down")
"""In the order in which they are returned."""
SHIFT = 0.05
"""Of the square's side."""
QUALITY = 85
_MARGIN = 0.1
_LARGEST = 1024
"""Pixels: a larger square is shrunk to this side first. Who ships pictures on shrinks them, and what JPEG
does to larger ones is gone once they are crops."""
_BLOCK = 16
"""Pixels: side of the block that JPEG codes, with its colour halved."""


def face_views(image: AnyImage, box: FaceBox | None, rule: FaceRule = FACE_RULE) -> Pixels:
    """Make the views of one face, upright, uint8 ``[len(VIEWS), 224, 224, 3]``.

    Args:
        image: RGB, oriented.
        box: the face; None for an image that is a crop, whose shifted views lose 5% at one side.
        rule: how a box becomes a crop.
    """
    turn = 0 if box is None else box.rotation
    size = upright_size(image_size(image), turn)
    square: Corners = (0.0, 0.0, float(size[0]), float(size[1]))
    if box is not None:
        square = crop_square(upright_box(box, image_size(image), turn), *size, rule)
    return square_views(image, square, turn, rule.resize)


def square_views(image: AnyImage, square: Corners, turn: int, resize: Resize) -> Pixels:
    """Make the views of one square of the upright picture, uint8 ``[len(VIEWS), 224, 224, 3]``.

    Args:
        image: RGB, oriented.
        square: in the picture turned upright.
        turn: degrees clockwise by which it lies.
        resize: how a square becomes a crop.
    """
    region = _around(square, upright_size(image_size(image), turn))
    part, _ = part_of(image, region, turn)
    x, y = region[:2]
    part, square = _at_most(part, (square[0] - x, square[1] - y, square[2] - x, square[3] - y))
    pictures = [(_jpeg(part), square), (_halved(part), square)]
    pictures += [(part, shifted) for shifted in _shifted(square, part.size)]
    return np.stack([resample(picture, corners, CROP_SIZE, 0, resize) for picture, corners in pictures])


def _around(square: Corners, size: tuple[int, int]) -> Corners:
    """Take the square with a margin, out to whole blocks, inside the image."""
    margin = _MARGIN * (square[2] - square[0])
    x0, y0 = (max(0, int((low - margin) // _BLOCK) * _BLOCK) for low in square[:2])
    x1, y1 = (
        min(whole, int(-(-(high + margin) // _BLOCK)) * _BLOCK)
        for high, whole in zip(square[2:], size, strict=True)
    )
    return float(x0), float(y0), float(x1), float(y1)


def _at_most(part: Image.Image, square: Corners) -> tuple[Image.Image, Corners]:
    scale = _LARGEST / max(square[2] - square[0], square[3] - square[1])
    if scale >= 1.0:
        return part, square
    width, height = (max(1, round(side * scale)) for side in part.size)
    across, down = width / part.width, height / part.height
    x0, y0, x1, y1 = square
    small = part.resize((width, height), Image.Resampling.BILINEAR)
    return small, (x0 * across, y0 * down, min(x1 * across, width), min(y1 * down, height))


def _jpeg(part: Image.Image) -> Image.Image:
    file = BytesIO()
    part.save(file, "JPEG", quality=QUALITY)
    with Image.open(file) as again:
        return again.convert("RGB")


def _halved(part: Image.Image) -> Image.Image:
    width, height = (max(1, side // 2) for side in part.size)
    small = part.resize((width, height), Image.Resampling.BILINEAR)
    return small.resize(part.size, Image.Resampling.BICUBIC)


def _shifted(square: Corners, size: tuple[int, int]) -> list[Corners]:
    """Move the square left, right, up and down; at the border of the picture it is cut instead."""
    x0, y0, x1, y1 = square
    width, height = map(float, size)
    by, down = SHIFT * (x1 - x0), SHIFT * (y1 - y0)
    left = (max(0.0, x0 - by), y0, x1 - by, y1)
    right = (x0 + by, y0, min(width, x1 + by), y1)
    above = (x0, max(0.0, y0 - down), x1, y1 - down)
    below = (x0, y0 + down, x1, min(height, y1 + down))
    return [left, right, above, below]
