"""A detector's file with another manifest, in the form that it has. It is no command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from bladescan.base.output_files import write_file
from bladescan.detectors.cascade import SUFFIX, encode_cascade, read_cascade
from bladescan.detectors.manifest import Manifest
from bladescan.detectors.onnx_metadata import import_onnx, manifest_of, with_manifest


def rewrite(path: Path, output: Path, change: Callable[[Manifest], Manifest]) -> None:
    """Write a detector, exported or a cascade or in safetensors, with a changed manifest."""
    if path.suffix == SUFFIX:
        cascade = read_cascade(path)
        write_file(
            output, encode_cascade(msgspec.structs.replace(cascade, manifest=change(cascade.manifest)))
        )
    elif path.suffix == ".onnx":
        model = import_onnx("this benchmark").load(str(path))
        write_file(output, with_manifest(model, change(manifest_of(model, where=path.name))))
    else:
        from bladescan.heads.detector import load_detector, save_detector

        detector = load_detector(path)
        save_detector(replace(detector, manifest=change(detector.manifest)), output)
