"""One evaluation from folders to a report: faces, variants of their crops, scores, metrics, words."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from bladescan import __version__
from bladescan.base.errors import DetectorError, OutputError, UsageError
from bladescan.base.output_files import write_file
from bladescan.detectors.calibration import false_alarm_threshold
from bladescan.detectors.manifest import HeadName, Manifest
from bladescan.evaluation.baselines import (
    BaselineFeatures,
    file_features,
    measure_baseline,
)
from bladescan.evaluation.cautions import (
    baseline_cautions,
    duplicate_cautions,
    finder_cautions,
    without_photographs,
)
from bladescan.evaluation.degradations import (
    VARIANTS,
    compressed_sizes,
)
from bladescan.evaluation.embedding_plot import plot_tsne
from bladescan.evaluation.html_report import as_html
from bladescan.evaluation.image_sets import ImageSets, cut_image_sets, file_codes, match_crops
from bladescan.evaluation.markdown_report import PICTURES, as_markdown
from bladescan.evaluation.metrics import Sample, compute_metrics
from bladescan.evaluation.mistakes import Mistake, worst_mistakes
from bladescan.evaluation.report import (
    NO_VARIANT,
    PHOTOGRAPHS,
    Baseline,
    HeadReport,
    Report,
    Scored,
    SetCounts,
)
from bladescan.evaluation.robustness_plot import plot_robustness
from bladescan.evaluation.roc_plot import plot_roc
from bladescan.evaluation.score_plot import plot_scores
from bladescan.evaluation.scoring import samples_of, score_variant
from bladescan.evaluation.strata import by_make, by_size
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import OpenedDetector, open_detector
from bladescan.scanning.cut_faces import Faces
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.sources.given import Given, sources_there
from bladescan.sources.source import Source

_Name = TypeVar("_Name", bound=str)


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What the user asked of an evaluation.

    Attributes:
        detector: the name of a shipped one or the path of a file; None for the default.
        false_alarm: None for the detector's own rate.
        match: whether both classes are made alike first.
        n_draws: of the bootstrap.
    """

    detector: str | Path | None = None
    backend: str = "auto"
    runtime: BackendSettings = BackendSettings()
    decoder: DecoderSettings = DecoderSettings()
    false_alarm: float | None = None
    match: bool = False
    batch_size: int = 16
    n_decoders: int = 1
    n_draws: int = 1000
    seed: int = 0


class Evaluation(NamedTuple):
    """The report, the raw scores by variant for plots, and the faces that were judged worst."""

    report: Report
    scored: dict[str, Scored]
    mistakes: list[Mistake]


def evaluate(
    photographs: Given,
    ai_generated: Mapping[str, Given],
    options: EvaluateOptions = EvaluateOptions(),  # noqa: B008 (it is frozen)
    *,
    seen: Callable[[int], None] = lambda n: None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Evaluation:
    """Measure a detector on photographs against the images of some generators.

    Args:
        photographs: camera photographs with a face.
        ai_generated: images of each generator, by its name.
        options: what the user asked.
        seen: told of each image decoded.
        progress: told of the stages that follow.

    Raises:
        UsageError: no generator, one of a reserved name, a rate that the detector cannot keep.
        DataError: too few images with a face in a set.
        BladescanError: the detector, the backend or the face finder cannot be had.
    """
    if not ai_generated or PHOTOGRAPHS in ai_generated:
        raise UsageError(f"an evaluation needs named generators, none of them called {PHOTOGRAPHS!r}")
    detector = open_detector(options.detector, options.backend, options.runtime)
    with contextlib.closing(detector.backend) as backend:
        manifest = backend.manifest
        rate = manifest.default_false_alarm if options.false_alarm is None else options.false_alarm
        thresholds = _thresholds(manifest, rate)
        given = {PHOTOGRAPHS: photographs, **ai_generated}
        sources = {name: sources_there(images, name) for name, images in given.items()}
        images = _cut(options, manifest, sources, seen)
        scored = {
            variant: score_variant(images.sets, variant, backend, list(thresholds), options.batch_size)
            for variant in _reported(list(VARIANTS), "scoring variants", progress)
        }
    heads = _head_reports(manifest, thresholds, rate, scored, images, options, progress)
    mistakes = worst_mistakes(images, scored[NO_VARIANT], thresholds)
    return Evaluation(_report(options, detector, rate, images, heads), scored, mistakes)


def save_evaluation(found: Evaluation, folder: Path, *, seed: int = 0) -> None:
    """Write ``report.html``, ``report.md``, ``report.json`` and the plots into a folder, made if need be.

    Raises:
        OutputError: one of them cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{folder}: {exc.strerror or exc}") from exc
    plain = found.scored[NO_VARIANT]
    write_file(folder / "report.json", msgspec.json.format(msgspec.json.encode(found.report)) + b"\n")
    write_file(folder / "report.md", as_markdown(found.report).encode())
    plot_roc(plain, folder / "roc.png")
    plot_scores(plain, found.report, folder / "scores.png")
    plot_tsne(plain, folder / "tsne.png", seed=seed)
    plot_robustness(found.report, folder / "robustness.png")
    plots = {name: (folder / f"{name}.png").read_bytes() for name in PICTURES}
    write_file(folder / "report.html", b"".join(as_html(found.report, found.mistakes, plots)))


def _cut(
    options: EvaluateOptions,
    manifest: Manifest,
    sources: Mapping[str, Iterable[Source]],
    seen: Callable[[int], None],
) -> ImageSets:
    decoder = options.decoder.for_detector(manifest)
    images = cut_image_sets(sources, decoder, options.n_decoders, progress=seen)
    return match_crops(images) if options.match else images


def _thresholds(manifest: Manifest, rate: float) -> dict[HeadName, float]:
    """Set thresholds of raw scores by head: a rate out of reach is then an error before the work."""
    if not manifest.heads:
        raise DetectorError(f"the detector {manifest.name!r} has no head to evaluate: run bladescan fit")
    found = {name: false_alarm_threshold(head, rate) for name, head in manifest.heads.items()}
    order: tuple[HeadName, ...] = ("one-class", "binary", "combined")
    return {name: found[name] if name == "one-class" else -found[name] for name in order if name in found}


def _reported(
    names: Iterable[_Name], stage: str, progress: Callable[[str, int, int], None]
) -> Iterator[_Name]:
    """Yield names one by one and tell how many are done."""
    steps = list(names)
    for done, name in enumerate(steps):
        progress(stage, done, len(steps))
        yield name
    progress(stage, len(steps), len(steps))


def _report(
    options: EvaluateOptions,
    detector: OpenedDetector,
    rate: float,
    images: ImageSets,
    heads: dict[HeadName, HeadReport],
) -> Report:
    manifest = detector.backend.manifest
    counts = {name: _counts(faces) for name, faces in images.sets.items()}
    baselines = _baselines(images, options)
    return Report(
        version=__version__,
        detector=manifest.name,
        detector_sha256=hashlib.sha256(detector.path.read_bytes()).hexdigest(),
        backend=detector.plugin,
        device=detector.backend.device,
        face_finder=images.ready.finder,
        subject=manifest.subject,
        false_alarm=rate,
        match=images.match,
        photographs=counts.pop(PHOTOGRAPHS),
        ai_generated=counts,
        heads=heads,
        baselines=baselines,
        warnings=[
            *finder_cautions(images.ready, manifest),
            *duplicate_cautions(images.facts),
            *baseline_cautions(heads, baselines, images.match),
        ],
    )


def _head_reports(
    manifest: Manifest,
    thresholds: Mapping[HeadName, float],
    rate: float,
    scored: Mapping[str, Scored],
    images: ImageSets,
    options: EvaluateOptions,
    progress: Callable[[str, int, int], None],
) -> dict[HeadName, HeadReport]:
    """Report on every head; ``scored`` by variant."""
    reports: dict[HeadName, HeadReport] = {}
    for name in _reported(thresholds, "measuring heads", progress):
        head = manifest.heads[name]
        samples = {v: samples_of(part, name, head, rate, images.files) for v, part in scored.items()}
        reports[name] = _head_report(thresholds[name], samples, images, options)
    return reports


def _head_report(
    threshold: float, samples: Mapping[str, dict[str, Sample]], images: ImageSets, options: EvaluateOptions
) -> HeadReport:
    """Report on one head; ``samples`` by variant, then by set."""
    variants = {
        variant: compute_metrics(
            parts[PHOTOGRAPHS], without_photographs(parts), n_draws=options.n_draws, seed=options.seed
        )
        for variant, parts in samples.items()
    }
    ours, theirs = samples[NO_VARIANT][PHOTOGRAPHS], without_photographs(samples[NO_VARIANT])
    found = Sample(*(np.concatenate(columns) for columns in zip(*theirs.values(), strict=True)))
    found_sides = np.concatenate([images.sides[name] for name in theirs])
    makes = [images.facts[PHOTOGRAPHS][image].make for image in images.sets[PHOTOGRAPHS].images]
    sizes = by_size(ours, found, images.sides[PHOTOGRAPHS], found_sides)
    return HeadReport(threshold, variants, sizes, by_make(ours, makes))


def _counts(faces: Faces) -> SetCounts:
    with_face = len(faces.names)
    return SetCounts(with_face + sum(faces.skipped.values()), with_face, len(faces.counts), faces.skipped)


def _detail(faces: Faces) -> NDArray[np.float64]:
    """Measure how much detail each face has, or each picture in its tiles on average, ``[n_faces]``."""
    sizes = compressed_sizes(faces.crops).astype(np.float64)
    return np.asarray(np.add.reduceat(sizes, faces.first_crops) / faces.counts)


def _baselines(images: ImageSets, options: EvaluateOptions) -> dict[str, Baseline]:
    files = {
        name: BaselineFeatures(file_features(part), file_codes(part)) for name, part in images.facts.items()
    }
    sizes = {
        name: BaselineFeatures(_detail(faces)[:, None], images.files[name])
        for name, faces in images.sets.items()
    }
    return {
        name: measure_baseline(sets, n_draws=options.n_draws, seed=options.seed)
        for name, sets in (("files", files), ("compressed-size", sizes))
    }
