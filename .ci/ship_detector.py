"""Replace the detector that ships: ``python .ci/ship_detector.py detector.safetensors [measured.md]``.

Exports it, checks the export, and writes both files and the model card into this package.
"""

from __future__ import annotations

import sys
from pathlib import Path
from string import Template

from bladescan.base.text import as_text
from bladescan.command.describe import describe
from bladescan.detectors.shipped import FOLDER, MODEL_CARD, ONNX, SAFETENSORS
from bladescan.exporting.onnx import export_onnx
from bladescan.heads.detector import load_detector, save_detector

TEMPLATE = FOLDER / "MODEL_CARD.template.md"


def install(path: Path, measured: Path | None) -> None:
    """Make a detector the one that ships; ``measured`` is of `benchmarks.quality.model_card`."""
    detector = load_detector(path)
    report = export_onnx(detector, ONNX)
    save_detector(detector, SAFETENSORS)
    card = Template(TEMPLATE.read_text()).substitute(
        manifest=as_text(describe(detector.manifest)),
        measured=measured.read_text().strip() if measured else "Not measured yet.",
    )
    MODEL_CARD.write_text(card)
    print(report)
    for written in (ONNX, SAFETENSORS, MODEL_CARD):
        print(f"{written}: {written.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python .ci/ship_detector.py detector.safetensors [measured.md]")
    install(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
