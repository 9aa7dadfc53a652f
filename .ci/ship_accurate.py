"""Bring the package ``accurate/`` up to date: ``python .ci/ship_accurate.py accurate.json cascade.json``.

The fast detector that ships is copied beside the cascade, false-alarm rates measured by
`benchmarks.detectors.measure` are written into the accurate detector and the cascade, which also gets the
digests of its parts. Nothing else in them changes.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import msgspec

from bladescan.base.output_files import write_file
from bladescan.detectors.cascade import encode_cascade, read_cascade
from bladescan.detectors.manifest import Manifest, MeasuredRate
from bladescan.detectors.onnx_metadata import replace_manifest
from bladescan.detectors.shipped import FOLDER
from bladescan.runtimes.registry import open_detector

PACKAGE = Path(__file__).parents[1] / "accurate" / "bladescan_accurate"


def with_rates(manifest: Manifest, rates: Path) -> Manifest:
    """Give a manifest the false-alarm rates of a file."""
    found = msgspec.json.decode(rates.read_bytes(), type=tuple[MeasuredRate, ...])
    return msgspec.structs.replace(manifest, measured=found)


def main(accurate_rates: Path, cascade_rates: Path) -> None:
    """Write all three files."""
    shutil.copyfile(FOLDER / "fast.onnx", PACKAGE / "fast.onnx")
    accurate = PACKAGE / "accurate.onnx"
    manifest = with_rates(open_detector(accurate).backend.manifest, accurate_rates)
    write_file(accurate, replace_manifest(accurate.read_bytes(), manifest, where=accurate.name))
    cascade = read_cascade(PACKAGE / "cascade.cascade")
    parts = {
        name: msgspec.structs.replace(
            part, sha256=hashlib.sha256((PACKAGE / part.file).read_bytes()).hexdigest()
        )
        for name, part in (("first", cascade.first), ("second", cascade.second))
    }
    manifest = with_rates(cascade.manifest, cascade_rates)
    changed = msgspec.structs.replace(cascade, manifest=manifest, **parts)
    write_file(PACKAGE / "cascade.cascade", encode_cascade(changed))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python .ci/ship_accurate.py accurate.json cascade.json")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
