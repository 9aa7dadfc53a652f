"""From a whole picture to what is stored of it: the largest face with context, or a patch with texture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from bladescan.base.records import FaceBox
from bladescan.faces.finders import FaceFinder
from bladescan.faces.mtcnn import Landmarks, landmarks_in
from bladescan.faces.pictures import image_size, upright, upright_box
from bladescan.photographs.photograph import Photograph, Pixels

CONTEXT = 1.8
"""Side of the stored square in face sides: room for crops of 1.3 that are shifted and scaled."""

MAX_STORED_SIDE = 320
MIN_STORED_SIDE = 96

FLAT_LIMIT = 0.35
"""A face with this share of perfectly flat pixels is a drawing or a cut-out, not a photograph."""

PATCH_SIDE = 512
"""Largest side of a patch in pixels; it is cut out, never resized."""

MIN_PATCH_SIDE = 256
"""Least side of a picture that gives a patch: room for a 224-pixel square that is shifted and scaled."""

BLOCK = 16
"""Side in pixels of the blocks in which texture is looked for."""

TEXTURE_DEVIATION = 2.5
"""A block whose luminance deviates by more than this (of 255) has texture."""

MIN_TEXTURED_SHARE = 0.15
"""A patch in which fewer blocks have texture is flat: sky, or black."""


class UnusableError(Exception):
    """A photograph that is left out; its text is the reason. It never leaves this room."""


def cut_face(image: Pixels, finder: FaceFinder) -> Photograph:
    """Cut out the largest face of a picture with its context, turned upright; no tags.

    Args:
        image: RGB ``[h, w, 3]``.
        finder: gives the boxes; where it has no landmarks, they are found in its boxes.

    Raises:
        UnusableError: there is no usable face.
    """
    boxes = finder.find(image)
    if not boxes:
        raise UnusableError("no-face")
    largest = max(boxes, key=lambda box: box.side)
    facing = np.ascontiguousarray(upright(image, largest.rotation))
    return cut_box(facing, upright_box(largest, image_size(image), largest.rotation))


def cut_box(image: Pixels, face: FaceBox) -> Photograph:
    """Cut out a face whose box is known, with its context; no tags.

    Args:
        image: RGB ``[h, w, 3]``.
        face: its box in pixels; where it has no landmarks, they are found in it.

    Raises:
        UnusableError: it is not usable.
    """
    photograph = _with_context(image, face, _landmarks(image, face))
    if min(photograph.pixels.shape[:2]) < MIN_STORED_SIDE:
        raise UnusableError("face-too-small")
    if photograph.box and flat_share(photograph.pixels, photograph.box) >= FLAT_LIMIT:
        raise UnusableError("drawing")
    return photograph


def whole_face(image: Pixels, face: FaceBox) -> Photograph:
    """Take a picture that is a face and its context already; no tags.

    Args:
        image: RGB ``[h, w, 3]``.
        face: the box in it; where it has no landmarks, they are found in it.

    Raises:
        UnusableError: it is not usable.
    """
    if min(image.shape[:2]) < MIN_STORED_SIDE:
        raise UnusableError("face-too-small")
    if max(image.shape[:2]) > MAX_STORED_SIDE:
        return cut_box(image, face)
    landmarks = _landmarks(image, face)
    box = (face.x0, face.y0, face.x1, face.y1)
    return Photograph(np.array(image, np.uint8), box, np.array(landmarks, np.float32))


def _landmarks(image: Pixels, face: FaceBox) -> Landmarks:
    found = face.landmarks or landmarks_in(image, face)
    if found is None:
        raise UnusableError("no-landmarks")
    return found


def cut_patch(image: Pixels) -> Photograph:
    """Cut out the square of a picture that has most texture, at its own resolution; no tags.

    Args:
        image: RGB ``[h, w, 3]``, at least a block on each side; less than `MIN_PATCH_SIDE` is of little use.

    Raises:
        UnusableError: it is flat wherever one looks.
    """
    textured = textured_blocks(image)
    rows, columns = (min(PATCH_SIDE // BLOCK, n) for n in textured.shape)
    # Shares of every window of so many blocks, by its upper left block.
    sums = cv2.integral(textured.astype(np.uint8))
    shares = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    top, left = np.unravel_index(int(shares.argmax()), shares.shape)
    if shares[top, left] < MIN_TEXTURED_SHARE * rows * columns:
        raise UnusableError("flat")
    y, x = int(top) * BLOCK, int(left) * BLOCK
    patch = image[y : y + rows * BLOCK, x : x + columns * BLOCK]
    return Photograph(np.array(patch, np.uint8))


def textured_blocks(image: Pixels) -> NDArray[np.bool_]:
    """Find the blocks of a picture that are not flat: bool ``[h // BLOCK, w // BLOCK]``."""
    n_rows, n_columns = (n // BLOCK for n in image.shape[:2])
    whole = np.ascontiguousarray(image[: n_rows * BLOCK, : n_columns * BLOCK])
    grey = cv2.cvtColor(whole, cv2.COLOR_RGB2GRAY).astype(np.float32)
    # Shrinking by whole blocks is the mean over each block.
    mean, square_mean = (
        np.asarray(cv2.resize(x, (n_columns, n_rows), interpolation=cv2.INTER_AREA), np.float32)
        for x in (grey, grey**2)
    )
    return np.asarray(square_mean - mean**2 > TEXTURE_DEVIATION**2, np.bool_)


def flat_share(pixels: Pixels, box: Sequence[float]) -> float:
    """Measure the share of the face's pixels that equal their right and their lower neighbour."""
    face = cv2.cvtColor(square(pixels, box, 1.0), cv2.COLOR_RGB2GRAY)
    right, below = face[:-1, 1:] == face[:-1, :-1], face[1:, :-1] == face[:-1, :-1]
    return float((right & below).mean()) if right.size else 1.0


def square(
    pixels: Pixels,
    box: Sequence[float],
    scale: float,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Pixels:
    """Cut a square of ``scale`` face sides about the box's centre, clipped to the image: a view.

    Args:
        pixels: RGB ``[h, w, 3]``.
        box: x0, y0, x1, y1 in pixels.
        scale: side, in longer sides of the box.
        shift: of the centre, in sides of the square.
    """
    side = scale * max(box[2] - box[0], box[3] - box[1])
    x = (box[0] + box[2] - side) / 2 + shift[0] * side
    y = (box[1] + box[3] - side) / 2 + shift[1] * side
    height, width = pixels.shape[:2]
    rows = slice(max(0, round(y)), max(1, min(height, round(y + side))))
    columns = slice(max(0, round(x)), max(1, min(width, round(x + side))))
    return pixels[rows, columns]


def _with_context(image: Pixels, face: FaceBox, points: tuple[tuple[float, float], ...]) -> Photograph:
    corners = np.array([face.x0, face.y0, face.x1, face.y1])
    side = CONTEXT * face.side
    # The same rounding as `square`, whose origin is needed for box and landmarks.
    left = max(0, round((face.x0 + face.x1 - side) / 2))
    top = max(0, round((face.y0 + face.y1 - side) / 2))
    cut = square(image, corners.tolist(), CONTEXT)
    factor = min(1.0, MAX_STORED_SIDE / max(cut.shape[:2]))
    size = (max(1, round(cut.shape[1] * factor)), max(1, round(cut.shape[0] * factor)))
    pixels = cut if factor == 1 else cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
    origin = np.array([left, top])
    x0, y0, x1, y1 = ((corners - np.tile(origin, 2)) * factor).tolist()
    landmarks = (np.array(points) - origin) * factor
    return Photograph(np.array(pixels, np.uint8), (x0, y0, x1, y1), landmarks.astype(np.float32))
