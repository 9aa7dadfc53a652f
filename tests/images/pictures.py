"""Pictures that the tests of images make, and what is asked of the decoder."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import ImageError
from bladescan.base.records import Reason
from bladescan.images.decoding import DecodedImage, decode_image
from bladescan.images.limits import Limits

LIMITS = Limits()


def corners(width: int = 48, height: int = 32) -> Image.Image:
    """A picture that no flip or turn leaves as it is: four flat quarters of different colours."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (250, 20, 20)
    pixels[: height // 2, width // 2 :] = (20, 250, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 250)
    pixels[height // 2 :, width // 2 :] = (200, 200, 60)
    return Image.fromarray(pixels)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def first(data: bytes, limits: Limits = LIMITS) -> np.ndarray:
    return next(decode_image(data, limits).frames)[1]


def everything(decoded: DecodedImage) -> list[tuple[int, np.ndarray]]:
    return list(decoded.frames)


def refusal_of(data: bytes, limits: Limits = LIMITS) -> tuple[Reason, str]:
    with pytest.raises(ImageError) as caught:
        everything(decode_image(data, limits))
    assert "\n" not in caught.value.detail and caught.value.detail
    return caught.value.reason, caught.value.detail


def reason_of(data: bytes, limits: Limits = LIMITS) -> Reason:
    return refusal_of(data, limits)[0]


def off(data: bytes, expected: np.ndarray) -> float:
    """By how many levels the first frame is off, at most."""
    pixels = first(data).astype(float)
    assert pixels.shape[:2] == expected.shape[:2]
    return float(np.abs(pixels - expected).max())


def ramp(height: int = 32, width: int = 48) -> np.ndarray:
    """From 0 to 1, in both directions."""
    return np.add.outer(np.arange(height) / (height - 1), np.arange(width) / (width - 1)) / 2


def animation(n_frames: int, kind: str = "GIF") -> bytes:
    frames = [Image.new("RGB", (20, 20), (10 * i, 255 - 10 * i, 128)) for i in range(n_frames)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **lossless)
