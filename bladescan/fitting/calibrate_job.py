"""New thresholds for a detector that exists: its heads stay, the user's photographs set its rates."""

from __future__ import annotations

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
from bladescan.base.records import ImageRecord, Scores, Verdict
from bladescan.detectors.calibration import (
    clopper_pearson,
    compress_calibration,
    false_alarm_interval,
    false_alarm_threshold,
    needed_photographs,
    p_values,
    photographic_scores,
)
from bladescan.detectors.manifest import CalibratedHead, Manifest
from bladescan.detectors.onnx_metadata import import_onnx, with_manifest
from bladescan.detectors.shipped import ONNX
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import choose_plugin
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.judging import choose_head
from bladescan.scanning.pipeline import Pipeline, ScanSettings
from bladescan.sources.given import Given, sources_of


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """What the user asked of a calibration.

    Attributes:
        detector: whose heads are kept.
        name: of the new detector, empty keeps the old one.
        false_alarm: its default rate.
    """

    detector: Path = ONNX
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
    _check_installed(options.detector)
    plugin = choose_plugin(options.backend, options.detector)
    backend = plugin.open(options.detector, options.runtime)
    try:
        scanner = Pipeline(_settings(options, plugin.name, backend.manifest), backend)
    except BaseException:
        backend.close()
        raise
    with scanner:
        faces = _collect(scanner.scan(sources_of(photographs)), seen)
        return _calibrated(backend.manifest, faces, scanner.ready.finder, options)


def _check_installed(detector: Path) -> None:
    """Raise MissingDependencyError before the photographs are read, not after."""
    suffix = detector.suffix.lower()
    packages, extra = (("onnx", "scipy"), "calibrate") if suffix == ".onnx" else (("torch", "scipy"), "train")
    for package in packages:
        if find_spec(package) is None:
            what = f"calibrating a detector in {suffix}"
            raise MissingDependencyError(what, package, f"pip install 'bladescan[{extra}]'")


def _settings(options: CalibrateOptions, backend: str, manifest: Manifest) -> ScanSettings:
    return ScanSettings(
        detector=options.detector,
        backend=backend,
        head=choose_head(manifest, "auto"),
        false_alarm=manifest.default_false_alarm,
        runtime=options.runtime,
        decoder=options.decoder.for_detector(manifest),
        n_decoders=options.n_decoders,
    )


def save_calibrated(found: Calibrated, output: Path) -> None:
    """Write the detector with its new manifest, in the form that it has.

    Raises:
        MissingDependencyError: what the form needs is not installed.
        OutputError: the file cannot be written.
    """
    _check_installed(found.detector)
    if found.detector.suffix.lower() == ".onnx":
        model = import_onnx("calibrating an .onnx detector").load_from_string(found.detector.read_bytes())
        write_file(output, with_manifest(model, found.manifest))
        return
    from bladescan.heads.detector import load_detector, save_detector

    save_detector(replace(load_detector(found.detector), manifest=found.manifest), output)


@dataclass(frozen=True, slots=True)
class _Faces:
    """What a detector says of the faces of some photographs."""

    scores: Scores
    n_images: int
    skipped: dict[str, int]

    def __len__(self) -> int:
        """Faces."""
        return max((len(part) for part in self.scores if part is not None), default=0)


def _collect(records: Iterable[ImageRecord], seen: Callable[[int], None]) -> _Faces:
    log_likelihoods: list[float | None] = []
    probabilities: list[float | None] = []
    skipped: Counter[str] = Counter()
    n_images = 0
    for record in records:
        seen(1)
        if not record.faces:
            skipped[(record.reason or Verdict.NO_FACE).value] += 1
            continue
        n_images += 1
        log_likelihoods += [face.log_likelihood for face in record.faces]
        probabilities += [face.p_ai_generated for face in record.faces]
    scores = Scores(_column(log_likelihoods), _column(probabilities), np.empty((0, 0), np.float32))
    return _Faces(scores, n_images, dict(skipped))


def _column(values: list[float | None]) -> NDArray[np.float64] | None:
    """Make a column of a head's scores; None if the detector lacks that head."""
    return np.asarray(values, np.float64) if values and values[0] is not None else None


def _calibrated(old: Manifest, faces: _Faces, finder: str, options: CalibrateOptions) -> Calibrated:
    n, rate = len(faces), options.false_alarm
    needed = needed_photographs(rate)
    if n < needed:
        raise DataError(
            f"{n} faces in {faces.n_images} photographs, but a false-alarm rate of {rate:g} needs at least "
            f"{needed}: give more photographs"
        )
    heads, compared = {}, {}
    for name, head in old.heads.items():
        scores = photographic_scores(faces.scores, name)
        heads[name] = msgspec.structs.replace(head, calibration=compress_calibration(scores), n_held_out=n)
        compared[name] = _compared(head, heads[name], scores, rate)
    report = {
        "n_images": faces.n_images,
        "n_faces": n,
        "skipped": faces.skipped,
        "false_alarm": rate,
        "false_alarm_interval_95": list(false_alarm_interval(n, rate)),
        "heads": compared,
    }
    manifest = msgspec.structs.replace(
        old,
        name=options.name or old.name,
        heads=heads,
        default_false_alarm=rate,
        face_rule=msgspec.structs.replace(old.face_rule, finder=finder),
        provenance={**old.provenance, "calibrated": report},
    )
    return Calibrated(options.detector, manifest, report)


def _compared(
    old: CalibratedHead, new: CalibratedHead, scores: NDArray[np.float64], rate: float
) -> dict[str, Any]:
    """Compare the new threshold with the old one, and count what the old one flags of these photographs."""
    flagged = int((p_values(old, scores) <= rate).sum())
    return {
        "threshold": false_alarm_threshold(new, rate),
        "flagged_before": flagged / len(scores),
        "flagged_before_interval_95": list(clopper_pearson(flagged, len(scores))),
    }
