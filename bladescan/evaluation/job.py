"""One evaluation from folders to a report: faces, variants of their crops, scores, metrics, words."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bladescan import __version__
from bladescan.base.errors import DataError, DetectorError, ImageError, UsageError
from bladescan.base.output_files import write_file
from bladescan.base.records import Scores
from bladescan.detectors.calibration import false_alarm_threshold, p_values, photographic_scores
from bladescan.detectors.manifest import Head, HeadName, Manifest
from bladescan.evaluation.degradations import (
    MATCH_QUALITY,
    VARIANTS,
    compressed_sizes,
    degrade,
    match,
    match_side,
)
from bladescan.evaluation.embedding_plot import plot_tsne
from bladescan.evaluation.metrics import (
    MIN_FILES,
    NO_VARIANT,
    PHOTOGRAPHS,
    Baseline,
    Counts,
    Features,
    FileFacts,
    HeadReport,
    Match,
    Report,
    Sample,
    Scored,
    anomaly_scores,
    by_make,
    by_size,
    file_features,
    measure,
    measure_baseline,
)
from bladescan.evaluation.page import as_markdown
from bladescan.evaluation.plots import plot_roc, plot_scores
from bladescan.evaluation.robustness_plot import plot_robustness
from bladescan.exif.tags import read_exif
from bladescan.fitting.features import Faces, cut_faces, listed
from bladescan.images.reading import Limits, read_file
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import choose_plugin, default_detector
from bladescan.scanning.decoder_process import Decoded, DecoderSettings, Ready
from bladescan.scanning.decoders import DecoderPool
from bladescan.scanning.pipeline import score_in_batches
from bladescan.sources.source import Source

JPEG_FORMATS = ("JPEG", "MPO")
_T = TypeVar("_T")
_Name = TypeVar("_Name", bound=str)


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What the user asked of an evaluation.

    Attributes:
        detector: its file, None for the one that ships.
        false_alarm: None for the detector's own rate.
        match: whether both classes are made alike first.
        n_draws: of the bootstrap.
    """

    detector: Path | None = None
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
    """What was found, and the raw scores by variant for plots."""

    report: Report
    scored: dict[str, Scored]


def run_evaluation(
    options: EvaluateOptions,
    photographs: Iterable[Source],
    ai_generated: Mapping[str, Iterable[Source]],
    *,
    seen: Callable[[int], None] = lambda n: None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Evaluation:
    """Measure a detector on photographs against the images of some generators.

    Args:
        options: what the user asked.
        photographs: camera photographs with a face.
        ai_generated: images of each generator, by its name.
        seen: told of each image decoded.
        progress: told of the stages that follow.

    Raises:
        UsageError: no generator, one of a reserved name, a rate that the detector cannot keep.
        DataError: too few images with a face in a set.
        BladescanError: the detector, the backend or the face finder cannot be had.
    """
    if not ai_generated or PHOTOGRAPHS in ai_generated:
        raise UsageError(f"an evaluation needs generators by name, none of them called {PHOTOGRAPHS!r}")
    backend = _open_backend(options)
    try:
        manifest = backend.manifest
        rate = manifest.default_false_alarm if options.false_alarm is None else options.false_alarm
        thresholds = _thresholds(manifest, rate)
        images = _cut(options, manifest, {PHOTOGRAPHS: photographs, **ai_generated}, seen)
        variants = _told(list(VARIANTS), "scoring variants", progress)
        scored = {
            variant: _score(images.sets, variant, backend, list(thresholds), options.batch_size)
            for variant in variants
        }
    finally:
        backend.close()
    heads: dict[HeadName, HeadReport] = {}
    for head in _told(thresholds, "measuring heads", progress):
        samples = {
            variant: _samples(part, head, manifest.heads[head], rate, images.files)
            for variant, part in scored.items()
        }
        heads[head] = _head_report(thresholds[head], samples, images, options)
    return Evaluation(_report(options, backend, rate, images, heads), scored)


def write_evaluation(found: Evaluation, folder: Path, *, seed: int = 0) -> None:
    """Write ``report.json``, ``report.md`` and the plots into a folder.

    Raises:
        OutputError: one of them cannot be written.
    """
    plain = found.scored[NO_VARIANT]
    write_file(folder / "report.json", msgspec.json.format(msgspec.json.encode(found.report)) + b"\n")
    write_file(folder / "report.md", as_markdown(found.report).encode())
    plot_roc(plain, folder / "roc.png")
    plot_scores(plain, found.report, folder / "scores.png")
    plot_tsne(plain, folder / "tsne.png", seed=seed)
    plot_robustness(found.report, folder / "robustness.png")


# ---------------------------------------------------------------------------------------- detector and faces


def _path(options: EvaluateOptions) -> Path:
    return default_detector(options.backend) if options.detector is None else options.detector


def _open_backend(options: EvaluateOptions) -> Backend:
    path = _path(options)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise DetectorError(
            f"{path}: {what}; expected a detector (.onnx or .safetensors), or none for what ships"
        )
    return choose_plugin(options.backend, path).open(path, options.runtime)


def _thresholds(manifest: Manifest, rate: float) -> dict[HeadName, float]:
    """Thresholds of raw scores by head, so that a rate out of reach is an error before the work."""
    if not manifest.heads:
        raise DetectorError(f"the detector {manifest.name!r} has no head to evaluate: run bladescan fit")
    found = {name: false_alarm_threshold(head, rate) for name, head in manifest.heads.items()}
    order: tuple[HeadName, ...] = ("one-class", "binary")
    return {name: found[name] if name == "one-class" else -found[name] for name in order if name in found}


class _Images(NamedTuple):
    """What was cut out of the images, matched if that was asked, and what is known of their files.

    Attributes:
        sets: faces by set.
        sides: by set, of every face in pixels of its image.
        facts: by set, of every image with a face.
        files: by set, a number for the file of every face; copies of a file share it.
    """

    sets: dict[str, Faces]
    sides: dict[str, NDArray[np.float64]]
    facts: dict[str, list[FileFacts]]
    files: dict[str, NDArray[np.intp]]
    ready: Ready
    match: Match | None


def _cut(
    options: EvaluateOptions,
    manifest: Manifest,
    sources: Mapping[str, Iterable[Source]],
    seen: Callable[[int], None],
) -> _Images:
    rule = manifest.face_rule
    decoder = msgspec.structs.replace(options.decoder, crop_scale=rule.scale, crop_resize=rule.resize)
    sets, facts = {}, {}
    with DecoderPool(options.n_decoders, decoder) as pool:
        ready = pool.start()
        for name, images in sources.items():
            sets[name] = cut_faces(images, pool, rule.scale, progress=seen)
            facts[name] = _facts(sets[name], decoder.limits)
            _check_enough(name, sets[name], facts[name])
    sides = {name: _face_sides(faces) for name, faces in sets.items()}
    files = {name: _codes(facts[name])[faces.images] for name, faces in sets.items()}
    matched = None
    if options.match:
        matched = Match(match_side(faces.crop_sides for faces in sets.values()), MATCH_QUALITY)
        for faces in sets.values():
            # In their place, for there may be gigabytes of them.
            match(faces.crops, matched.side, matched.quality, out=faces.crops)
    return _Images(sets, sides, facts, files, ready, matched)


def _check_enough(name: str, faces: Faces, facts: Iterable[FileFacts]) -> None:
    n_different = len({fact.digest for fact in facts})
    if n_different < MIN_FILES:
        skipped = f" (skipped: {listed(faces.skipped)})" if faces.skipped else ""
        raise DataError(
            f"{name}: {n_different} different images with a face{skipped}; "
            f"an evaluation needs at least {MIN_FILES} in every set"
        )


def _face_sides(faces: Faces) -> NDArray[np.float64]:
    """Side of every face; of the crop, where no finder said where the face is."""
    boxes = [face.box for decoded in faces.decoded for face in decoded.faces]
    return np.asarray(
        [side if box is None else box.side for box, side in zip(boxes, faces.crop_sides, strict=True)]
    )


def _codes(facts: Iterable[FileFacts]) -> NDArray[np.intp]:
    places: dict[bytes, int] = {}
    return np.asarray([places.setdefault(fact.digest, len(places)) for fact in facts], np.intp)


# ---------------------------------------------------------------------------------------------------- scores


def _told(names: Iterable[_Name], stage: str, progress: Callable[[str, int, int], None]) -> Iterator[_Name]:
    steps = list(names)
    for done, name in enumerate(steps):
        progress(stage, done, len(steps))
        yield name
    progress(stage, len(steps), len(steps))


def _score(
    sets: Mapping[str, Faces], variant: str, backend: Backend, heads: list[HeadName], batch_size: int
) -> Scored:
    found = {name: _scores(faces.crops, variant, backend, batch_size) for name, faces in sets.items()}
    raw: dict[HeadName, dict[str, NDArray[np.float64]]] = {}
    for head in heads:
        sign = 1.0 if head == "one-class" else -1.0
        raw[head] = {name: sign * photographic_scores(scores, head) for name, scores in found.items()}
    plain = variant == NO_VARIANT
    return Scored(raw, {name: scores.embedding for name, scores in found.items()} if plain else {})


def _scores(crops: NDArray[np.uint8], variant: str, backend: Backend, batch_size: int) -> Scores:
    parts = []
    for start in range(0, len(crops), batch_size):
        part = score_in_batches(backend, degrade(crops[start : start + batch_size], variant), batch_size)
        assert part is not None
        parts.append(part)
    joined: list[Any] = [
        None if columns[0] is None else np.concatenate(columns) for columns in zip(*parts, strict=True)
    ]
    return Scores(*joined)


def _samples(
    scored: Scored, name: HeadName, head: Head, rate: float, files: Mapping[str, NDArray[np.intp]]
) -> dict[str, Sample]:
    samples = {}
    for part, raw in scored.scores[name].items():
        anomaly = anomaly_scores(name, raw)
        samples[part] = Sample(anomaly, p_values(head, -anomaly) <= rate, files[part])
    return samples


# ---------------------------------------------------------------------------------------------------- report


def _report(
    options: EvaluateOptions,
    backend: Backend,
    rate: float,
    images: _Images,
    heads: dict[HeadName, HeadReport],
) -> Report:
    path, manifest = _path(options), backend.manifest
    counts = {name: _counts(faces) for name, faces in images.sets.items()}
    baselines = _baselines(images, options)
    return Report(
        version=__version__,
        detector=manifest.name,
        detector_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        backend=choose_plugin(options.backend, path).name,
        device=backend.device,
        face_finder=images.ready.finder,
        false_alarm=rate,
        match=images.match,
        photographs=counts.pop(PHOTOGRAPHS),
        ai_generated=counts,
        heads=heads,
        baselines=baselines,
        warnings=[
            *_finder_notes(images.ready, manifest),
            *_duplicate_notes(images.facts),
            *_baseline_notes(heads, baselines, images.match),
        ],
    )


def _head_report(
    threshold: float, samples: Mapping[str, dict[str, Sample]], images: _Images, options: EvaluateOptions
) -> HeadReport:
    """One head; ``samples`` by variant, then by set."""
    variants = {
        variant: measure(parts[PHOTOGRAPHS], _generators(parts), n_draws=options.n_draws, seed=options.seed)
        for variant, parts in samples.items()
    }
    ours, theirs = samples[NO_VARIANT][PHOTOGRAPHS], _generators(samples[NO_VARIANT])
    found = Sample(*(np.concatenate(columns) for columns in zip(*theirs.values(), strict=True)))
    found_sides = np.concatenate([images.sides[name] for name in theirs])
    makes = [images.facts[PHOTOGRAPHS][image].make for image in images.sets[PHOTOGRAPHS].images]
    sizes = by_size(ours, found, images.sides[PHOTOGRAPHS], found_sides)
    return HeadReport(threshold, variants, sizes, by_make(ours, makes))


def _generators(sets: Mapping[str, _T]) -> dict[str, _T]:
    return {name: part for name, part in sets.items() if name != PHOTOGRAPHS}


def _counts(faces: Faces) -> Counts:
    with_face = len(faces.names)
    return Counts(with_face + sum(faces.skipped.values()), with_face, len(faces.crops), faces.skipped)


def _baselines(images: _Images, options: EvaluateOptions) -> dict[str, Baseline]:
    files = {name: Features(file_features(part), _codes(part)) for name, part in images.facts.items()}
    sizes = {
        name: Features(compressed_sizes(faces.crops)[:, None].astype(np.float64), images.files[name])
        for name, faces in images.sets.items()
    }
    return {
        name: measure_baseline(sets, n_draws=options.n_draws, seed=options.seed)
        for name, sets in (("files", files), ("compressed-size", sizes))
    }


def _finder_notes(ready: Ready, manifest: Manifest) -> list[str]:
    notes = [ready.notice] if ready.notice else []
    fitted = manifest.face_rule.finder
    if ready.finder not in (fitted, "none"):
        notes.append(
            f"the detector was fitted on faces found by {fitted}, this evaluation uses {ready.finder}: "
            "false-alarm rates may differ"
        )
    return notes


def _duplicate_notes(facts: Mapping[str, list[FileFacts]]) -> list[str]:
    ours = {fact.digest for fact in facts[PHOTOGRAPHS]}
    shared = {name: sum(fact.digest in ours for fact in part) for name, part in _generators(facts).items()}
    copies = {name: len(part) - len({fact.digest for fact in part}) for name, part in facts.items()}
    return [
        *(
            f"{n} of the files of {name} are among the photographs as well: no number about {name} holds"
            for name, n in shared.items()
            if n
        ),
        *(
            f"{n} of the files of {name} are copies of others there: intervals count them as one file"
            for name, n in copies.items()
            if n
        ),
    ]


_SEES = {
    "files": "file size, dimensions, format and JPEG quantisation",
    "compressed-size": "the bytes that a JPEG of the crop takes",
}


def _baseline_notes(
    heads: Mapping[HeadName, HeadReport],
    baselines: Mapping[str, Baseline],
    matched: Match | None,
) -> list[str]:
    """One line for each head that a baseline beats, and the way out."""
    notes = []
    for baseline, found in baselines.items():
        for head, report in heads.items():
            measured = report.variants[NO_VARIANT].generators
            areas = found.generators.items()
            beaten = [name for name, area in areas if area.value >= measured[name].auc.value]
            if beaten:
                notes.append(
                    f"{_SEES[baseline]} alone reach the AUC of the {head} head or more on "
                    f"{', '.join(beaten)}: {_consequence(baseline, matched)}"
                )
    if notes and matched is None:
        notes.append("the classes differ in more than their faces: look at them with --match as well")
    return notes


def _consequence(baseline: str, matched: Match | None) -> str:
    if baseline == "files" and matched is not None:
        return "the sets differ that much as files, of which the matched crops should show nothing"
    return "there its score is no evidence that it sees faces"


# ------------------------------------------------------------------------------------------------ file facts


def _facts(faces: Faces, limits: Limits) -> list[FileFacts]:
    return [_file_facts(name, one, limits) for name, one in zip(faces.names, faces.decoded, strict=True)]


def _file_facts(name: str, decoded: Decoded, limits: Limits) -> FileFacts:
    try:
        data = read_file(name, limits, listed=True)
    except ImageError as exc:
        raise DataError(f"{name}: {exc}; it could be read when its faces were cut out") from exc
    make = read_exif(data).tags.get("make")
    return FileFacts(
        n_bytes=len(data),
        width=decoded.width or 1,
        height=decoded.height or 1,
        format=decoded.format or "",
        quantisation=_quantisation(data) if decoded.format in JPEG_FORMATS else (),
        make=None if make is None else str(make),
        digest=hashlib.blake2b(data, digest_size=16).digest(),
    )


def _quantisation(data: bytes) -> tuple[float, ...]:
    """Mean of each quantisation table of a JPEG that was decoded before; empty where Pillow finds none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                tables = getattr(image, "quantization", {})
        except Exception:  # Pillow lets a dozen unrelated types out of a broken header
            return ()
    return tuple(float(np.mean(table)) for _, table in sorted(tables.items()))
