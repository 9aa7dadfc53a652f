"""The files of the detector that ships with the package."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
ONNX = FOLDER / "default.onnx"
SAFETENSORS = FOLDER / "default.safetensors"
MODEL_CARD = FOLDER / "MODEL_CARD.md"
