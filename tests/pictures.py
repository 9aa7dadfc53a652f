"""Detectors of whole pictures small enough for tests, and pictures for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from bladescan.detectors.manifest import CalibratedHead, FaceRule, PictureRule
from bladescan.detectors.onnx_metadata import replace_manifest
from bladescan.heads.detector import Detector
from tests.once import exported
from tests.tiny import tiny_detector


def picture_detector(rule: PictureRule = PictureRule(most=4)) -> Detector:  # noqa: B008 (it is frozen)
    """The tiny detector, made for whole pictures."""
    plain = tiny_detector(heads=("binary", "one-class"))
    heads = {
        "binary": CalibratedHead(tuple(np.linspace(-0.9, -0.1, 99).tolist()), 99),
        "one-class": CalibratedHead(tuple(np.linspace(-9e4, 0.0, 99).tolist()), 99),
    }
    whole = {"subject": "image", "picture_rule": rule, "face_rule": FaceRule(finder="none")}
    manifest = msgspec.structs.replace(plain.manifest, name="tiny pictures", heads=heads, **whole)
    return replace(plain, manifest=manifest)


def save_pair(folder: Path) -> tuple[Path, Path]:
    """Write the tiny detector for whole pictures and the one for faces, as ONNX: one graph, two manifests."""
    image, face = folder / "image.onnx", folder / "face.onnx"
    plain = tiny_detector(heads=("binary", "one-class"))
    for path, detector in ((face, plain), (image, picture_detector())):
        path.write_bytes(replace_manifest(exported("tiny"), detector.manifest, where=path.name))
    return image, face


def texture(width: int, height: int, seed: int) -> np.ndarray:
    """A picture without a face: colour fields with grain."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    fields = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return np.clip(fields + rng.integers(-20, 20, fields.shape), 0, 255).astype(np.uint8)


def save_textures(folder: Path, n: int, size: tuple[int, int] = (300, 260), seed: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for i in range(n):
        Image.fromarray(texture(*size, 1000 * seed + i)).save(folder / f"{i:03}.png")
    return folder
