"""The detector that ships with the package, and its model card."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
ONNX = FOLDER / "default.onnx"
SAFETENSORS = FOLDER / "default.safetensors"
MODEL_CARD = FOLDER / "MODEL_CARD.md"


def default_detector(backend: str = "auto") -> Path:
    """The file of the shipped detector that a backend opens; ``auto`` takes what scans fastest."""
    from bladescan.backend import get_plugin

    if backend == "auto" or ONNX.suffix in get_plugin(backend).suffixes:
        return ONNX
    return SAFETENSORS
