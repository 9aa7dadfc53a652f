"""Photographs to train on where none can be had: one portrait with a camera's EXIF, some of it to be seen.

Grain follows ISO, brightness exposure time, size focal length, blur behind the face aperture. What comes of
training on them says how fast it is and that it learns, not how good a detector is.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import piexif
from piexif import ExifIFD, ImageIFD
from PIL import Image, ImageFilter

SIDE = 512
_MAKERS = (b"Canon", b"NIKON CORPORATION", b"SONY", b"FUJIFILM", b"Panasonic")
_ISO = (100, 200, 400, 800, 1600, 3200)
_APERTURE = (1.8, 2.8, 4.0, 5.6, 8.0, 11.0)
_EXPOSURE_S = (1 / 1000, 1 / 500, 1 / 250, 1 / 125, 1 / 60, 1 / 30)
_FOCAL_MM = (24, 35, 50, 85, 135, 200)


def write_photographs(folder: Path, face: Image.Image, n: int) -> Path:
    """Write ``n`` JPEG files, each with all nine tags."""
    folder.mkdir(parents=True)
    for i in range(n):
        (folder / f"{i:05}.jpg").write_bytes(_photograph(face, np.random.default_rng(i)))
    return folder


def _photograph(face: Image.Image, rng: np.random.Generator) -> bytes:
    iso, aperture, exposure, focal = (int(rng.integers(6)) for _ in range(4))
    background = Image.fromarray(rng.integers(30, 220, (12, 12, 3), dtype=np.uint8)).resize((SIDE, SIDE))
    image = background.filter(ImageFilter.GaussianBlur(12 - 2 * aperture))
    side = round(SIDE * (0.55 + 0.07 * focal))
    shown = face.resize((side, round(side * face.height / face.width)))
    left, top = rng.integers(0, SIDE - side + 1), rng.integers(0, max(1, SIDE - shown.height + 1))
    image.paste(shown, (int(left), int(top)))
    pixels = np.asarray(image, np.float32) * (0.7 + 0.1 * exposure)
    pixels = pixels * rng.uniform(0.9, 1.1, 3).astype(np.float32) + rng.normal(0, 1 + 2 * iso, pixels.shape)
    buffer = io.BytesIO()
    made = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    made.save(buffer, "JPEG", quality=92, exif=_exif(rng, iso, aperture, exposure, focal))
    return buffer.getvalue()


def _exif(rng: np.random.Generator, iso: int, aperture: int, exposure: int, focal: int) -> bytes:
    shot = {
        ExifIFD.ISOSpeedRatings: _ISO[iso],
        ExifIFD.FNumber: (round(10 * _APERTURE[aperture]), 10),
        ExifIFD.ExposureTime: (1, round(1 / _EXPOSURE_S[exposure])),
        ExifIFD.FocalLength: (_FOCAL_MM[focal], 1),
        ExifIFD.MeteringMode: int(rng.choice([2, 3, 5])),
        ExifIFD.ExposureMode: int(rng.integers(3)),
        ExifIFD.WhiteBalance: int(rng.integers(2)),
        ExifIFD.ExposureProgram: int(rng.integers(1, 5)),
    }
    camera = {ImageIFD.Make: _MAKERS[rng.integers(len(_MAKERS))], ImageIFD.Model: b"Made"}
    return bytes(piexif.dump({"0th": camera, "Exif": shot}))
