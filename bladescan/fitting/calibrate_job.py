"""New thresholds for a detector that exists: its heads stay, the user's photographs set its rates."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError, MissingDependencyError
from bladescan.base.output_files import write_file
from bladescan.base.records import Scores
from bladescan.detectors.calibration import (
    clopper_pearson,
    compress_calibration,
    false_alarm_interval,
    needed_photographs,
    p_values,
    photographic_scores,
)
from bladescan.detectors.cascade import SUFFIX, part_files, read_cascade
from bladescan.detectors.files import read_whole
from bladescan.detectors.manifest import CalibratedHead, HeadName, Manifest, MeasuredRate
from bladescan.detectors.measured import rates_by_source
from bladescan.detectors.onnx_metadata import replace_manifest
from bladescan.detectors.suspicion import suspicion_threshold
from bladescan.fitting.cascade_job import save_cascade
from bladescan.fitting.copies import CopyCount, without_copies
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import choose_plugin, find_detector
from bladescan.scanning.cut_faces import with_faces
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.decoders import decoder_pool
from bladescan.scanning.pipeline import crops_of
from bladescan.scanning.scoring import score_in_batches
from bladescan.sources.given import Given, sources_of
from bladescan.sources.source import Source

_BATCH_SIZE = 16


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """What the user asked of a calibration.

    Attributes:
        detector: whose heads are kept, by the name of a shipped one or the path of a file; None for the
            default.
        name: of the new detector, empty keeps the old one.
        false_alarm: its default rate.
    """

    detector: str | Path | None = None
    name: str = ""
    false_alarm: float = 0.05
    backend: str = "auto"
    runtime: BackendSettings = BackendSettings()
    decoder: DecoderSettings = DecoderSettings()
    n_decoders: int = 1


class Calibrated(NamedTuple):
    """A detector's new manifest, and what the photographs said of the old one.

    Attributes:
        detector: the file that was calibrated.
        report: plain JSON values, also in the manifest's provenance.
    """

    detector: Path
    manifest: Manifest
    report: dict[str, Any]


def calibrate(
    photographs: Given,
    options: CalibrateOptions = CalibrateOptions(),  # noqa: B008 (it is frozen)
    *,
    seen: Callable[[int], None] = lambda n: None,
) -> Calibrated:
    """Score photographs by a detector and make them its calibration.

    Raises:
        BladescanError: the detector, the backend or the photographs are of no use.
        MissingDependencyError: what the calibration needs is not installed.
    """
    path = find_detector(options.detector, options.backend)
    _check_installed(path)
    backend = choose_plugin(options.backend, path).open(path, options.runtime)
    try:
        faces = _collect(sources_of(photographs), backend, options, seen)
        return Calibrated(path, *_calibrated(backend.manifest, faces, options))
    finally:
        backend.close()


def _check_installed(detector: Path) -> None:
    """Raise MissingDependencyError before the photographs are read, not after."""
    suffix = detector.suffix.lower()
    if suffix not in (".onnx", SUFFIX) and find_spec("torch") is None:
        what = f"calibrating a detector in {suffix}"
        raise MissingDependencyError(what, "torch", "pip install 'bladescan[train]'")


def save_calibrated(found: Calibrated, output: Path) -> None:
    """Write the detector with its new manifest, in the form that it has; a cascade's parts go with it.

    Raises:
        MissingDependencyError: what the form needs is not installed.
        OutputError: the file cannot be written.
    """
    _check_installed(found.detector)
    if found.detector.suffix.lower() == SUFFIX:
        cascade = read_cascade(found.detector)
        parts = part_files(found.detector, cascade)
        save_cascade(msgspec.structs.replace(cascade, manifest=found.manifest), parts, output)
        return
    if found.detector.suffix.lower() == ".onnx":
        model = read_whole(found.detector, "an ONNX detector")
        write_file(output, replace_manifest(model, found.manifest, where=found.detector.name))
        return
    from bladescan.heads.detector import load_detector, save_detector

    save_detector(replace(load_detector(found.detector), manifest=found.manifest), output)


@dataclass(frozen=True, slots=True)
class _Faces:
    """What a detector says of the faces of some photographs.

    Attributes:
        folders: of each face's file.
        n_images: photographs with a face that are no copies.
        finder: that found the faces.
    """

    scores: Scores
    folders: list[str]
    n_images: int
    finder: str
    skipped: dict[str, int]
    copies: CopyCount

    def __len__(self) -> int:
        """Faces."""
        return len(self.folders)


def _collect(
    sources: Iterable[Source], backend: Backend, options: CalibrateOptions, seen: Callable[[int], None]
) -> _Faces:
    """Find the faces of all photographs and score them; of copies only the first counts."""
    decoder = msgspec.structs.replace(options.decoder.for_detector(backend.manifest), identify=True)
    skipped: Counter[str] = Counter()
    copies = CopyCount()
    parts: list[Scores] = []
    folders: list[str] = []
    n_images = 0
    with decoder_pool(options.n_decoders, decoder) as pool:
        finder = pool.start().finder
        found_faces = with_faces(sources, pool, skipped, seen)
        for source, decoded in without_copies(found_faces, copies, skipped):
            scores = score_in_batches(backend, crops_of([decoded]), _BATCH_SIZE)
            assert scores is not None
            parts.append(scores)
            folders += [os.path.basename(os.path.dirname(source.name))] * len(decoded.faces)
            n_images += 1
    return _Faces(_joined(parts), folders, n_images, finder, dict(skipped), copies)


def _joined(parts: list[Scores]) -> Scores:
    """Join scores; those of a head that the detector lacks are None."""
    columns = zip(*parts, strict=True) if parts else iter(((), (), ()))
    joined = [None if not column or column[0] is None else np.concatenate(column) for column in columns]
    empty = np.empty((0, 0), np.float32)
    return Scores(joined[0], joined[1], empty if joined[2] is None else joined[2])


def _calibrated(old: Manifest, faces: _Faces, options: CalibrateOptions) -> tuple[Manifest, dict[str, Any]]:
    n, rate = len(faces), options.false_alarm
    needed = needed_photographs(rate)
    if n < needed:
        raise DataError(
            f"{n} faces in {faces.n_images} photographs, but a false-alarm rate of {rate:g} needs at least "
            f"{needed}: give more photographs"
        )
    heads: dict[HeadName, CalibratedHead] = {}
    compared: dict[str, Any] = {}
    measured: list[MeasuredRate] = []
    for name, head in old.heads.items():
        scores = photographic_scores(faces.scores, name)
        heads[name] = msgspec.structs.replace(head, calibration=compress_calibration(scores), n_held_out=n)
        compared[name] = _compared(name, head, heads[name], scores, rate)
        measured += rates_by_source(name, scores, faces.folders, rate)
    report = {
        "n_images": faces.n_images,
        "n_faces": n,
        "skipped": faces.skipped,
        **({"notices": [f"copies are left out: {faces.copies.told()}"]} if faces.copies else {}),
        "false_alarm": rate,
        "false_alarm_interval_95": list(false_alarm_interval(n, rate)),
        "heads": compared,
    }
    manifest = msgspec.structs.replace(
        old,
        name=options.name or old.name,
        heads=heads,
        default_false_alarm=rate,
        measured=tuple(measured),
        face_rule=msgspec.structs.replace(old.face_rule, finder=faces.finder),
        provenance={**old.provenance, "calibrated": report},
    )
    return manifest, report


def _compared(
    name: HeadName, old: CalibratedHead, new: CalibratedHead, scores: NDArray[np.float64], rate: float
) -> dict[str, Any]:
    """Give the new threshold, in the unit of a scan's scores, and what the old one flags of these."""
    flagged = int((p_values(old, scores) <= rate).sum())
    return {
        "threshold": suspicion_threshold(new, name, rate),
        "flagged_before": flagged / len(scores),
        "flagged_before_interval_95": list(clopper_pearson(flagged, len(scores))),
    }
