"""Replace a detector that ships: ``python .ci/ship_detector.py NAME detector.safetensors [measured.md]``.

Exports it, checks the export, and writes both files and the model card into this package. ``measured.json``
beside ``measured.md``, both of `benchmarks.quality.model_card`, holds the false-alarm rates that its manifest
gets. ``python .ci/ship_detector.py --rates NAME measured.json`` only writes those into one that ships.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from string import Template

import msgspec

from bladescan.base.output_files import write_file
from bladescan.base.text import as_text
from bladescan.command.describe import describe
from bladescan.detectors.manifest import MeasuredRate
from bladescan.detectors.onnx_metadata import replace_manifest
from bladescan.detectors.shipped import DETECTORS, FOLDER, MODEL_CARD
from bladescan.exporting.onnx import export_onnx
from bladescan.heads.detector import Detector, load_detector, save_detector

TEMPLATE = FOLDER / "MODEL_CARD.template.md"


def install(name: str, path: Path, measured: Path | None) -> None:
    """Make a detector the one that ships by a name; ``measured`` is of `benchmarks.quality.model_card`."""
    detector = load_detector(path)
    rates = None if measured is None else measured.with_suffix(".json")
    if rates is not None and rates.exists():
        detector = with_rates(detector, rates)
    files = files_of(name)
    report = export_onnx(detector, files[0])
    save_detector(detector, files[1])
    card = Template(TEMPLATE.read_text()).substitute(
        manifest=as_text(describe(detector.manifest)),
        measured=measured.read_text().strip() if measured else "Not measured yet.",
    )
    MODEL_CARD.write_text(card)
    print(report)
    for written in (*files, MODEL_CARD):
        print(f"{written}: {written.stat().st_size / 1e6:.1f} MB")


def files_of(name: str) -> tuple[Path, Path]:
    """Both files of a detector that ships."""
    return FOLDER / f"{name}.onnx", FOLDER / f"{name}.safetensors"


def with_rates(detector: Detector, rates: Path) -> Detector:
    """Give a detector the false-alarm rates of a file."""
    found = msgspec.json.decode(rates.read_bytes(), type=tuple[MeasuredRate, ...])
    return replace(detector, manifest=msgspec.structs.replace(detector.manifest, measured=found))


def install_rates(name: str, rates: Path) -> None:
    """Write false-alarm rates into both files that ship; all else in them stays."""
    onnx, safetensors = files_of(name)
    detector = with_rates(load_detector(safetensors), rates)
    save_detector(detector, safetensors)
    write_file(onnx, replace_manifest(onnx.read_bytes(), detector.manifest, where=onnx.name))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rates"] and len(sys.argv) == 4:
        install_rates(sys.argv[2], Path(sys.argv[3]))
        sys.exit()
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in DETECTORS:
        sys.exit(
            "usage: python .ci/ship_detector.py NAME detector.safetensors [measured.md], or --rates NAME "
            f"measured.json, where NAME is one of {', '.join(DETECTORS)}"
        )
    install(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
