"""Bring the package ``accurate/`` up to date: ``python .ci/ship_accurate.py [accurate.json cascade.json]``.

The fast detector that ships is copied beside the cascade, which gets the digests of its parts. With
false-alarm rates measured by `benchmarks.detectors.measure`, the accurate detector and the cascade get those
too. Nothing else in them changes.
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


def main(accurate_rates: Path | None = None, cascade_rates: Path | None = None) -> None:
    """Write all three files; without rates the accurate detector stays."""
    shutil.copyfile(FOLDER / "fast.onnx", PACKAGE / "fast.onnx")
    if accurate_rates is not None:
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
    manifest = cascade.manifest if cascade_rates is None else with_rates(cascade.manifest, cascade_rates)
    changed = msgspec.structs.replace(cascade, manifest=manifest, **parts)
    write_file(PACKAGE / "cascade.cascade", encode_cascade(changed))


if __name__ == "__main__":
    if len(sys.argv) not in (1, 3):
        sys.exit("usage: python .ci/ship_accurate.py [accurate.json cascade.json]")
    main(*map(Path, sys.argv[1:]))
