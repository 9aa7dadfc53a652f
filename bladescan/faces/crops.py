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

Pixels = NDArray[np.uint8]
AnyImage = Image.Image | Pixels
"""RGB, as Pillow holds it or as an array ``[h, w, 3]``: each form is used as it is where it can be."""
Corners = tuple[float, float, float, float]


def crop_face(
    image: AnyImage,
    box: FaceBox,
    rule: FaceRule = FACE_RULE,
    *,
    size: int = CROP_SIZE,
) -> Pixels:
    """Cut out the square crop ``[size, size, 3]`` of one face; see `crop_square` for where.

    With the rule's ``antialias`` every pixel of the square counts. With ``bilinear`` a pixel of the crop is
    mixed from four of the image however large the square is, as the authors of BLADES resize a tensor of
    pixels: for encoders that learned so.
    """
    return _RESAMPLE[rule.resize](image, crop_square(box, *image_size(image), rule), size)


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


def crop_side(box: FaceBox | None, width: int, height: int, rule: FaceRule = FACE_RULE) -> float:
    """Measure the side of that square, in pixels of the image; without a box the image is a crop itself."""
    longest = float(min(width, height))
    return longest if box is None else min(max(rule.scale * box.side, 1.0), longest)


def whole_crop(image: AnyImage, rule: FaceRule = FACE_RULE, *, size: int = CROP_SIZE) -> Pixels:
    """Take the whole image as one crop ``[size, size, 3]``; one that is not square is squeezed."""
    width, height = image_size(image)
    return _RESAMPLE[rule.resize](image, (0.0, 0.0, float(width), float(height)), size)


def image_size(image: AnyImage) -> tuple[int, int]:
    """Give width and height."""
    return image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])


def _part(image: AnyImage, corners: Corners) -> tuple[Image.Image, Corners]:
    """Cut out the pixels that a rectangle touches; also return its corners within them."""
    x0, y0, x1, y1 = corners
    left, top, right, bottom = int(x0), int(y0), int(np.ceil(x1)), int(np.ceil(y1))
    within = (x0 - left, y0 - top, x1 - left, y1 - top)
    if isinstance(image, Image.Image):
        return image.crop((left, top, right, bottom)), within
    return Image.fromarray(np.ascontiguousarray(image[top:bottom, left:right])), within


def _antialias(image: AnyImage, corners: Corners, size: int) -> Pixels:
    # Bilinear with its support widened when shrinking (antialiased): the kernel is never negative, so it
    # draws no halos around edges, and it is fixed-point arithmetic in Pillow, the same on every machine.
    part, within = _part(image, corners)
    return np.asarray(part.resize((size, size), Image.Resampling.BILINEAR, box=within))


def _bilinear(image: AnyImage, corners: Corners, size: int) -> Pixels:
    # What torch's interpolate(mode="bilinear", align_corners=False) gives, rounded to whole grey levels.
    x0, y0, x1, y1 = corners
    left, right, across = _neighbours(x0, x1, size)
    upper, lower, down = _neighbours(y0, y1, size)
    pixels = np.asarray(_part(image, corners)[0])

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


_RESAMPLE: dict[Resize, Callable[[AnyImage, Corners, int], Pixels]] = {
    "antialias": _antialias,
    "bilinear": _bilinear,
}
