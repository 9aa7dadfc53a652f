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
    needed_photographs,
    p_values,
    photographic_scores,
)
from bladescan.detectors.cascade import SUFFIX, part_files, read_cascade
from bladescan.detectors.collections import (
    Collections,
    calibrate_by,
    check_unit,
    collection_names,
    find_collections,
    left_out_told,
    promised,
)
from bladescan.detectors.combination import combined_scores
from bladescan.detectors.combined_file import SUFFIX as COMBINED
from bladescan.detectors.combined_file import CombinedFile, combined_parts, encode_combined, read_combined
from bladescan.detectors.files import read_whole
from bladescan.detectors.manifest import (
    CalibratedHead,
    HeadName,
    Manifest,
    MeasuredRate,
    counted_subjects,
)
from bladescan.detectors.measured import rates_by_source
from bladescan.detectors.neighbours import make_neighbours
from bladescan.detectors.onnx_metadata import replace_manifest
from bladescan.detectors.suspicion import suspicion_threshold
from bladescan.fitting.cascade_job import save_cascade
from bladescan.fitting.combining import Combined, calibrated
from bladescan.fitting.copies import CopyCount, without_copies
from bladescan.fitting.part_files import copy_beside
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import choose_plugin, find_detector, open_file
from bladescan.scanning.cut_faces import listed, with_faces
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.decoders import decoder_pool
from bladescan.scanning.pipeline import crops_of
from bladescan.scanning.scoring import joined_scores, score_whole
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
        by: over what rates hold, one of `bladescan.detectors.collections.UNITS`.
    """

    detector: str | Path | None = None
    name: str = ""
    false_alarm: float = 0.05
    by: str = "file"
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
    check_unit(options.by)
    path = find_detector(options.detector, options.backend)
    _check_installed(path)
    backend = open_file(choose_plugin(options.backend, path), path, options.runtime)
    try:
        return Calibrated(path, *calibrate_backend(backend, photographs, options, seen=seen))
    finally:
        backend.close()


def calibrate_backend(
    backend: Backend,
    photographs: Given,
    options: CalibrateOptions,
    *,
    seen: Callable[[int], None] = lambda n: None,
) -> tuple[Manifest, dict[str, Any]]:
    """Make photographs the calibration of a detector that is loaded.

    Returns:
        Its new manifest, and the report of `Calibrated`.

    Raises:
        BladescanError: the photographs are of no use.
    """
    faces = _collect(sources_of(photographs), backend, options, seen)
    return _calibrated(backend.manifest, faces, options)


def _check_installed(detector: Path) -> None:
    """Raise MissingDependencyError before the photographs are read, not after."""
    suffix = detector.suffix.lower()
    if suffix not in (".onnx", SUFFIX, COMBINED) and find_spec("torch") is None:
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
    if found.detector.suffix.lower() == COMBINED:
        combined = read_combined(found.detector)
        files = combined_parts(found.detector, combined)
        copy_beside(files, output)
        write_file(output, encode_combined(CombinedFile(found.manifest, combined.parts)))
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
            counts = [face.n_crops for face in decoded.faces]
            scores = score_whole(backend, crops_of([decoded]), counts, _BATCH_SIZE)
            assert scores is not None
            parts.append(scores)
            folders += [os.path.dirname(source.name)] * len(decoded.faces)
            n_images += 1
    scores = joined_scores(parts) or Scores(None, None, np.empty((0, 0), np.float32))
    return _Faces(scores, folders, n_images, finder, dict(skipped), copies)


def _calibrated(old: Manifest, faces: _Faces, options: CalibrateOptions) -> tuple[Manifest, dict[str, Any]]:
    n, rate = len(faces), options.false_alarm
    _check_enough(old, faces, rate)
    by = check_unit(options.by)
    sources = [os.path.basename(folder) for folder in faces.folders]
    collections = None
    if by != "file":
        sources = collection_names(faces.folders)
        collections = find_collections(by, sources, rate)
    heads: dict[HeadName, CalibratedHead] = {}
    compared: dict[str, Any] = {}
    measured: list[MeasuredRate] = []
    combined, about = _combined(old, faces, rate, collections)
    for name, head in old.heads.items():
        scores = photographic_scores(faces.scores, name)
        flagged = int((p_values(head, scores) <= rate).sum())
        heads[name] = calibrate_by(by, scores, collections, head)
        if name == "combined" and combined is not None:
            heads[name], scores = _combined_head(combined, collections, head, options)
        compared[name] = _compared(name, heads[name], flagged, n, rate)
        measured += rates_by_source(name, scores, sources, rate, by)
    notices = [f"copies are left out: {faces.copies.told()}"] if faces.copies else []
    notices += about.pop("notices", [])
    notices += left_out_told(collections, rate)
    report = {
        "n_images": faces.n_images,
        "n_faces": n,
        "skipped": faces.skipped,
        **({"notices": notices} if notices else {}),
        "false_alarm": rate,
        **promised(by, collections, n, rate),
        "heads": compared,
        **({"combined": about} if about else {}),
    }
    manifest = msgspec.structs.replace(
        old,
        name=options.name or old.name,
        heads=heads,
        combination=old.combination if combined is None else combined.combination,
        default_false_alarm=rate,
        neighbours=make_neighbours(faces.scores.embedding) if old.subject == "face" else None,
        measured=tuple(measured),
        face_rule=msgspec.structs.replace(old.face_rule, finder=faces.finder),
        provenance={**old.provenance, "calibrated": report},
    )
    return manifest, report


def _check_enough(old: Manifest, faces: _Faces, rate: float) -> None:
    """Raise DataError where there are fewer faces than a rate needs."""
    needed = needed_photographs(rate)
    if len(faces) < needed:
        raise DataError(
            f"{counted_subjects(old, len(faces))} in {faces.n_images} photographs "
            f"({listed(faces.skipped, 'no other image')}), but a false-alarm rate of {rate:g} "
            f"needs at least {needed}: give more photographs"
        )


def _combined(
    old: Manifest, faces: _Faces, rate: float, collections: Collections | None
) -> tuple[Combined | None, dict[str, Any]]:
    """Calibrate what a detector combines, if it does, and what is told of it.

    By folders the components keep their calibrations: then the combined score is the same function of a face
    for photographs of all folders, which the promise needs.
    """
    if old.combination is None or faces.scores.components is None:
        return None, {}
    found = calibrated(old.combination, faces.scores.components, rate)
    if collections is not None:
        kept = msgspec.structs.replace(old.combination, seen_together=True)
        scores = combined_scores(kept, faces.scores.components)
        found = found._replace(combination=kept, scores=scores)
    return found, dict(found.report)


def _combined_head(
    combined: Combined, collections: Collections | None, old: CalibratedHead, options: CalibrateOptions
) -> tuple[CalibratedHead, NDArray[np.float64]]:
    """Give the head that joins others its calibration, and the scores of the photographs by it."""
    if collections is None:
        return combined.head, combined.scores  # in p-values of the new calibrations
    return calibrate_by(check_unit(options.by), combined.scores, collections, old), combined.scores


def _compared(name: HeadName, new: CalibratedHead, flagged: int, n: int, rate: float) -> dict[str, Any]:
    """Give the new threshold, in the unit of a scan's scores, and what the old one flagged of these."""
    return {
        "threshold": suspicion_threshold(new, name, rate),
        "flagged_before": flagged / n,
        "flagged_before_interval_95": list(clopper_pearson(flagged, n)),
    }
