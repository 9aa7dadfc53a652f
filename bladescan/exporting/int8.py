"""A detector and a collection of photographs to the detector in 8-bit integers."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError, MissingDependencyError
from bladescan.base.output_files import write_file
from bladescan.base.records import Verdict
from bladescan.detectors.manifest import FaceRule
from bladescan.exporting.quantisation import FEWEST_CROPS, quantisable, quantise
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.decoders import DecoderPool, decoder_pool
from bladescan.scanning.pipeline import crops_of, decode_in_order
from bladescan.sources.source import Source

MOST_FACES = 2_000
"""Faces that are looked at, 150 kB each; the photographs after them are left."""


def export_int8(
    detector: Path,
    output: Path,
    photographs: Iterable[Source],
    decoder: DecoderSettings,
    *,
    n_decoders: int = 1,
    seen: Callable[[int], None] = lambda n: None,
) -> dict[str, Any]:
    """Write a detector with an encoder in integers.

    Args:
        detector: ``.safetensors``, exported first, or ``.onnx``.
        output: destination.
        photographs: whose faces set the ranges, and tell what has changed.
        decoder: face finder and limits; the crop rule is the detector's.
        n_decoders: decoder processes.
        seen: called with the number of photographs just done.

    Returns:
        The report, for people.

    Raises:
        BladescanError: the detector, or the photographs, are of no use.
    """
    data = _exported(detector)
    manifest = quantisable(data, where=detector.name)  # before the minutes that cutting takes
    crops = cut_faces(photographs, manifest.face_rule, decoder, n_decoders=n_decoders, seen=seen)
    lowered, report = quantise(data, crops, where=detector.name)
    write_file(output, lowered)
    return asdict(report)


def cut_faces(
    photographs: Iterable[Source],
    rule: FaceRule,
    decoder: DecoderSettings,
    *,
    n_decoders: int = 1,
    seen: Callable[[int], None] = lambda n: None,
) -> NDArray[np.uint8]:
    """Face crops of photographs, uint8 ``[n, 224, 224, 3]``, cut by a detector's rule.

    Raises:
        DataError: there are too few.
    """
    settings = msgspec.structs.replace(decoder, face_rule=rule)
    with decoder_pool(n_decoders, settings) as pool:
        return _cut(photographs, pool, seen)


def _exported(detector: Path) -> bytes:
    """The detector as ONNX, checked by the backend that will open it."""
    if detector.suffix.lower() == ".onnx":
        get_plugin("onnx").open(detector, BackendSettings("cpu")).close()
        return detector.read_bytes()
    try:
        from bladescan.exporting.onnx import export_onnx
        from bladescan.heads.detector import load_detector
    except ImportError as exc:
        raise MissingDependencyError(
            "exporting a .safetensors detector", "torch", "pip install 'bladescan[train]'"
        ) from exc
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "detector.onnx")
        export_onnx(load_detector(detector), path)
        return path.read_bytes()


def _cut(photographs: Iterable[Source], pool: DecoderPool, seen: Callable[[int], None]) -> NDArray[np.uint8]:
    """Face crops of photographs, those of the first that have enough."""
    pool.start()
    parts: list[NDArray[np.uint8]] = []
    skipped: Counter[str] = Counter()
    n_faces = 0
    for item in decode_in_order(photographs, pool):
        if item is None:
            continue
        seen(1)
        _, decoded = item
        if not decoded.faces:
            skipped[(decoded.reason or Verdict.NO_FACE).value] += 1
            continue
        parts.append(crops_of([decoded]))
        n_faces += len(decoded.faces)
        if n_faces >= MOST_FACES:
            break
    if n_faces < FEWEST_CROPS:
        without = ", ".join(f"{n} {why}" for why, n in skipped.most_common()) or "no other image"
        raise DataError(f"{n_faces} faces found ({without}): int8 needs at least {FEWEST_CROPS}")
    return np.concatenate(parts)
