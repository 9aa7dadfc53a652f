"""The faces of the training pool, cut once with a margin, and the views of them that the training sees.

Both classes are cut, compressed and degraded alike: what is left to learn from is the face.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from bladescan.detectors.manifest import FACE_RULE
from bladescan.faces.crops import crop_square
from bladescan.faces.finders import open_face_finder
from bladescan.images.decoding import decode_image
from bladescan.images.limits import Limits

CALIBRATION_SOURCES = frozenset(
    {
        "csvconf",
        "ms_advocates",
        "openff",
        "djangocon2022",
        "sklearn_blog",
        "ols",
        "djangocon2024",
        "JSConfBp_2019.jsconfbp.com",
        "greenelab",
        "fluxcd",
        "metadata_extractor",
        "libcarp",
        "djangocon_2025.djangocon.africa",
        "k8s_contrib",
    }
)
"""Collections of photographs that nothing learns from; they set the thresholds."""

SIZE = 224
_MARGIN, _MOST, _QUALITY = 1.55, 264, 92
_BILINEAR = Image.Resampling.BILINEAR
_KERNELS = (_BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, _BILINEAR)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class CutFace:
    """One face of the pool.

    Attributes:
        jpeg: the face with a margin, at most 264 pixels wide.
        inner: corners in it of the crop that a scan would cut.
        group: its generator, or the collection of a photograph.
        ai_generated: its class.
    """

    jpeg: bytes
    inner: Box
    group: str
    ai_generated: bool

    @property
    def calibrates(self) -> bool:
        """Tell whether it is kept out of all training."""
        return not self.ai_generated and self.group in CALIBRATION_SOURCES

    def picture(self) -> Image.Image:
        """Decode it."""
        return Image.open(io.BytesIO(self.jpeg)).convert("RGB")


def cut_pool() -> list[CutFace]:
    """Cut the largest face out of every picture of the training pool but the scenes."""
    data, finder = Path(os.environ["BLADESCAN_DATA"]), open_face_finder("yunet")
    faces = []
    with open(data / "manifest.csv", newline="") as file:
        for line in csv.DictReader(file):
            if line["pool"] != "train" or "scenes" in line["path"]:
                continue
            _, pixels = next(iter(decode_image((data / line["path"]).read_bytes(), Limits()).frames))
            boxes = [box for box in finder.find(pixels) if not box.rotation]
            if boxes:
                is_ai = line["cls"] == "ai-generated"
                group = line["generator"] if is_ai else line["source"]
                faces.append(_cut(pixels, max(boxes, key=lambda box: box.side), group, is_ai))
    return faces


def _cut(pixels, box, group: str, is_ai: bool) -> CutFace:
    height, width = pixels.shape[:2]
    outer = crop_square(box, width, height, msgspec.structs.replace(FACE_RULE, scale=_MARGIN))
    side = outer[2] - outer[0]
    target = min(_MOST, round(side))
    scan = crop_square(box, width, height, FACE_RULE)
    x0, y0, x1, y1 = (
        (value - outer[axis]) * target / side for value, axis in zip(scan, (0, 1, 0, 1), strict=True)
    )
    small = Image.fromarray(pixels).resize((target, target), _BILINEAR, box=outer)
    return CutFace(_encoded(small, _QUALITY, subsampling=0), (x0, y0, x1, y1), group, is_ai)


def scan_view(face: CutFace) -> NDArray[np.uint8]:
    """Crop a face as a scan does."""
    return np.asarray(face.picture().resize((SIZE, SIZE), _BILINEAR, box=face.inner))


def matched_view(face: CutFace, side: int = 160, quality: int = 90) -> NDArray[np.uint8]:
    """Bring a face to one size and compression."""
    small = Image.fromarray(scan_view(face)).resize((side, side), _BILINEAR)
    return np.asarray(_again(small, quality).resize((SIZE, SIZE), _BILINEAR))


def training_view(face: CutFace, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Degrade a face at random: place, scale, blur, sharpening, colour, noise, compression."""
    picture = face.picture()
    kernel = _KERNELS[rng.integers(4)]
    picture = _placed(picture, face.inner, kernel, rng)
    if rng.random() < 0.2:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.3)))
    if rng.random() < 0.1:
        picture = picture.filter(ImageFilter.UnsharpMask(rng.uniform(0.6, 2), int(rng.uniform(30, 120)), 2))
    if rng.random() < 0.5:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            picture = enhance(picture).enhance(rng.uniform(0.8, 1.2))
    if rng.random() < 0.12:
        noisy = np.asarray(picture, np.float32)
        noisy = noisy + rng.normal(0, rng.uniform(1, 5), noisy.shape)
        picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    kind = rng.random()
    if kind < 0.7:
        picture = _again(picture, rng.uniform(50, 98), subsampling=int(rng.integers(3)))
    elif kind < 0.8:
        picture = _again(picture, rng.uniform(40, 95), "WEBP")
    if rng.random() < 0.2:
        side = max(48, int(picture.width * rng.uniform(0.6, 1.4)))
        picture = _again(picture.resize((side, side), kernel), rng.uniform(60, 95))
    picture = picture.resize((SIZE, SIZE), _BILINEAR)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(picture)


def _placed(
    picture: Image.Image, inner: Box, kernel: Image.Resampling, rng: np.random.Generator
) -> Image.Image:
    x0, y0, x1, y1 = inner
    width = x1 - x0
    side = min(width * rng.uniform(0.88, 1.18), *picture.size)
    left = (x0 + x1) / 2 + width * rng.uniform(-0.05, 0.05) - side / 2
    top = (y0 + y1) / 2 + width * rng.uniform(-0.05, 0.05) - side / 2
    left, top = (
        min(max(corner, 0), most - side) for corner, most in zip((left, top), picture.size, strict=True)
    )
    target = max(24, int(min(side, SIZE)))
    if rng.random() < 0.55:
        target = max(48, int(target * rng.uniform(0.42, 1.0)))
    return picture.resize((target, target), kernel, box=(left, top, left + side, top + side))


def draw_shares(groups: Sequence[str]) -> NDArray[np.float64]:
    """Weigh faces so that a group is drawn by the square root of its size."""
    _, inverse, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    shares = 1 / np.sqrt(counts[inverse])
    return shares / shares.sum()


def _encoded(picture: Image.Image, quality: float, form: str = "JPEG", **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=int(quality), **options)
    return buffer.getvalue()


def _again(picture: Image.Image, quality: float, form: str = "JPEG", **options: int) -> Image.Image:
    return Image.open(io.BytesIO(_encoded(picture, quality, form, **options))).convert("RGB")
