"""How well a detector tells AI-generated faces from photographs: the records of a report and its metrics.

NumPy and scikit-learn only; it opens no file and runs no detector. Scores of a set are those of its faces;
what is drawn again for an interval is the *file*, with all its faces, for faces of one file are no
independent evidence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.detectors.manifest import HeadName

PHOTOGRAPHS = "photographs"
"""Name of the photographic set beside the names of the generators."""
UNKNOWN_MAKE = "unknown make"
"""Name of the photographs whose EXIF names no camera make."""
NO_VARIANT = "none"
"""Name of the variant that leaves the crops as they are."""


class Interval(NamedTuple):
    """A measured value and its 95% interval, all of them shares in [0, 1]."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """Photographs against one generator, or the mean over the generators. AI-generated is the positive class.

    Both classes weigh the same in ``accuracy``, ``average_precision`` and ``f_score``, however many faces
    they have, so that generators can be compared and averaged.

    Attributes:
        n_photographs: faces in the photographs.
        n_ai_generated: faces of the generator.
        accuracy: mean of TNR and TPR at the detector's threshold.
        auc: area under the ROC curve.
        average_precision: area under the precision-recall curve, as scikit-learn's.
        tpr_at_5, tpr_at_1: share of AI-generated faces found where 5% or 1% of *these* photographs are
            flagged: the threshold comes from the evaluation, not from the detector.
        tnr, fpr, fnr: at the detector's threshold.
        f_score: harmonic mean of precision and recall at the detector's threshold.
    """

    n_photographs: int
    n_ai_generated: int
    accuracy: Interval
    auc: Interval
    average_precision: Interval
    tpr_at_5: Interval
    tpr_at_1: Interval
    tnr: Interval
    fpr: Interval
    fnr: Interval
    f_score: Interval


@dataclass(frozen=True, slots=True)
class VariantReport:
    """One head on one variant of the crops.

    Attributes:
        generators: by name.
        mean: of the generators' values, each generator counted once.
    """

    generators: dict[str, Metrics]
    mean: Metrics


@dataclass(frozen=True, slots=True)
class Stratum:
    """Shares of a part of the faces that are flagged, with Wilson intervals.

    Attributes:
        name: what the part has in common, in words.
        n_photographs, n_ai_generated: faces.
        false_alarm: flagged photographs, None where there is none.
        found: flagged AI-generated faces of all generators together, None where there is none.
    """

    name: str
    n_photographs: int
    n_ai_generated: int
    false_alarm: Interval | None
    found: Interval | None


@dataclass(frozen=True, slots=True)
class HeadReport:
    """One head of the detector.

    Attributes:
        threshold: of ``raw`` scores: a face is flagged at a log-likelihood below it (one-class), or at a
            P(AI-generated) above it (binary).
        variants: by name, `NO_VARIANT` first.
        by_size: by the side of the face, smallest first.
        by_make: photographs by camera make, most faces first, those of an `UNKNOWN_MAKE` last.
    """

    threshold: float
    variants: dict[str, VariantReport]
    by_size: list[Stratum] = field(default_factory=list)
    by_make: list[Stratum] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Baseline:
    """AUC of what sees no face.

    Attributes:
        generators: by name.
        mean: of the generators' values.
    """

    generators: dict[str, Interval]
    mean: Interval


@dataclass(frozen=True, slots=True)
class Counts:
    """What a set of images came to.

    Attributes:
        files: listed.
        with_face: of them, those with a face.
        faces: in those.
        skipped: files without a face or not readable, by reason.
    """

    files: int
    with_face: int
    faces: int
    skipped: dict[str, int]


@dataclass(frozen=True, slots=True)
class Match:
    """How both classes were made alike before anything else: to this side and back, by this JPEG between."""

    side: int
    quality: int


@dataclass(frozen=True, slots=True)
class Report:
    """All that an evaluation found. msgspec writes it as JSON; an `Interval` becomes ``[value, low, high]``.

    Attributes:
        version: of bladescan.
        detector: name in the manifest.
        detector_sha256: of its file.
        backend, device, face_finder: what ran it.
        false_alarm: the rate at which the detector's threshold was asked.
        match: None where the crops were taken as they were.
        photographs: counts.
        ai_generated: counts by generator, in the order given.
        heads: by name.
        baselines: by name: ``files`` (size, dimensions, format and JPEG quantisation of the file),
            ``compressed-size`` (bytes of a JPEG of the crop that was scored).
        warnings: one line each.
    """

    version: str
    detector: str
    detector_sha256: str
    backend: str
    device: str
    face_finder: str
    false_alarm: float
    match: Match | None
    photographs: Counts
    ai_generated: dict[str, Counts]
    heads: dict[HeadName, HeadReport]
    baselines: dict[str, Baseline]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Scored:
    """Raw scores of one variant, for plots.

    Attributes:
        scores: by head, then by set (`PHOTOGRAPHS` or a generator), float64 ``[n_faces]``: log-likelihoods
            (one-class), or P(AI-generated) (binary).
        embeddings: by set, float32 ``[n_faces, d]``; empty but for the variant `NO_VARIANT`.
    """

    scores: dict[HeadName, dict[str, NDArray[np.float64]]]
    embeddings: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def anomaly_scores(head: HeadName, raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raw scores of a head turned so that higher is more AI-generated, of the same shape."""
    return -raw if head == "one-class" else raw


# --------------------------------------------------------------------------------------------------- metrics


class Sample(NamedTuple):
    """The faces of one set under one head.

    Attributes:
        anomaly: ``[n]``, higher is more AI-generated.
        flagged: bool ``[n]``, by the detector's own threshold.
        files: ``[n]``, what names the file of each face.
    """

    anomaly: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    files: NDArray[Any]


def measure(
    photographs: Sample, generators: Mapping[str, Sample], *, n_draws: int = 1000, seed: int = 0
) -> VariantReport:
    """All metrics of one head, each with the central 95% of what redrawn files would have given.

    Args:
        photographs: at least one face.
        generators: at least one, by name, each with a face.
        n_draws: of the bootstrap.
        seed: of the draws.
    """
    values = draw_values({name: (photographs, sample) for name, sample in generators.items()}, n_draws, seed)
    each = {name: _metrics(photographs, [sample], values[name]) for name, sample in generators.items()}
    return VariantReport(
        each, _metrics(photographs, generators.values(), np.mean(list(values.values()), axis=0))
    )


def draw_values(
    pairs: Mapping[str, tuple[Sample, Sample]], n_draws: int = 1000, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Every measure of every generator, as it is and as redrawn files give it.

    A draw takes as many files as there are, with replacement, from the photographs and from each generator
    by itself. All generators meet the same drawn photographs, so the interval of the mean holds what they
    have in common. The draws depend on the files and the seed alone: two detectors of the same faces meet the
    same ones, and their difference may be taken draw by draw.

    Args:
        pairs: photographs and AI-generated faces by the generator's name; the photographs of all of them are
            the same faces, but may have other scores.
        n_draws: of the bootstrap.
        seed: of the draws.

    Returns:
        By generator ``[1 + n_draws, measures]``, in the order of `MEASURES`; the first row is what was seen.
    """
    files = {PHOTOGRAPHS: next(iter(pairs.values()))[0].files}
    files |= {name: theirs.files for name, (_, theirs) in pairs.items()}
    rows: dict[str, list[NDArray[np.float64]]] = {name: [] for name in pairs}
    for weights in _draws(files, n_draws, seed):
        for name, (ours, theirs) in pairs.items():
            rows[name].append(_values(ours, theirs, weights[PHOTOGRAPHS], weights[name]))
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def interval_of(draws: NDArray[np.float64]) -> Interval:
    """The first of some values and the central 95% of the others, ``[1 + n_draws]``."""
    low, high = np.percentile(draws[1:], [2.5, 97.5])
    return Interval(float(draws[0]), float(low), float(high))


def wilson(count: int, n: int) -> Interval | None:
    """A share and its 95% Wilson score interval; None of nothing."""
    if n == 0:
        return None
    share, z2 = count / n, _Z95**2
    centre = (count + z2 / 2) / (n + z2)
    reach = _Z95 / (n + z2) * math.sqrt(n * share * (1 - share) + z2 / 4)
    return Interval(share, max(0.0, min(centre - reach, share)), min(1.0, max(centre + reach, share)))


_Z95 = 1.959963984540054
_LARGEST_BLOCK = 2_000_000
MEASURES = tuple(name for name, kind in Metrics.__annotations__.items() if kind == "Interval")
"""Names of the measures in `Metrics`, in order."""
_SHARES = ("tnr", "fpr", "fnr")


def _draws(
    files: Mapping[str, NDArray[Any]], n_draws: int, seed: int
) -> Iterator[dict[str, NDArray[np.float64]]]:
    """How often each face counts, ``[draws, n_faces]`` by set: once as it is, then drawn anew, in blocks."""
    yield {name: np.ones((1, len(named))) for name, named in files.items()}
    codes = {name: np.unique(named, return_inverse=True)[1] for name, named in files.items()}
    rngs = dict(zip(files, np.random.default_rng(seed).spawn(len(files)), strict=True))
    block = max(1, _LARGEST_BLOCK // sum(len(code) for code in codes.values()))
    for start in range(0, n_draws, block):
        n = min(block, n_draws - start)
        yield {name: _redrawn(code, n, rngs[name]) for name, code in codes.items()}


def _redrawn(code: NDArray[np.intp], n_draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    n_files = int(code.max()) + 1
    times = rng.multinomial(n_files, np.full(n_files, 1 / n_files), size=n_draws)
    return times[:, code].astype(np.float64)


def _values(
    photographs: Sample, generated: Sample, ours: NDArray[np.float64], theirs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Every measure in the order of `MEASURES`, ``[draws, measures]``, for weights ``[draws, n_faces]``."""
    thresholds = np.unique(np.concatenate([photographs.anomaly, generated.anomaly]))[::-1]
    fpr = _share_at_least(photographs.anomaly, ours, thresholds)
    tpr = _share_at_least(generated.anomaly, theirs, thresholds)
    false_alarm = ours @ photographs.flagged / ours.sum(1)
    found = theirs @ generated.flagged / theirs.sum(1)
    measured = {
        "accuracy": (1 - false_alarm + found) / 2,
        "auc": (np.diff(fpr) * (tpr[:, 1:] + tpr[:, :-1]) / 2).sum(1),
        "average_precision": (np.diff(tpr) * _ratio(tpr, tpr + fpr)[:, 1:]).sum(1),
        "tpr_at_5": _tpr_at(0.05, fpr, tpr),
        "tpr_at_1": _tpr_at(0.01, fpr, tpr),
        "tnr": 1 - false_alarm,
        "fpr": false_alarm,
        "fnr": 1 - found,
        "f_score": _ratio(2 * found, found + false_alarm + 1),
    }
    return np.stack([measured[name] for name in MEASURES], axis=1)


def _share_at_least(
    scores: NDArray[np.float64], weights: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share of the weight at or above each threshold, ``[draws, 1 + thresholds]``; the first is zero."""
    order = np.argsort(-scores, kind="stable")
    total = np.cumsum(weights[:, order], axis=1)
    counts = np.searchsorted(-scores[order], -thresholds, side="right")
    shares = np.hstack([np.zeros((len(weights), 1)), total / total[:, -1:]])
    return shares[:, np.concatenate([[0], counts])]


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _tpr_at(rate: float, fpr: NDArray[np.float64], tpr: NDArray[np.float64]) -> NDArray[np.float64]:
    allowed: NDArray[np.float64] = np.where(fpr <= rate + 1e-12, tpr, 0.0).max(axis=1)
    return allowed


def _metrics(photographs: Sample, generated: Iterable[Sample], values: NDArray[np.float64]) -> Metrics:
    parts = list(generated)
    found = {name: interval_of(draws) for name, draws in zip(MEASURES, values.T, strict=True)}
    n_files = dict.fromkeys(_SHARES, _n_files([photographs])) | {"fnr": _n_files(parts)}
    found |= {name: _not_certain(found[name], n_files[name]) for name in _SHARES}
    return Metrics(len(photographs.anomaly), sum(len(part.anomaly) for part in parts), **found)


def _n_files(samples: Iterable[Sample]) -> int:
    return sum(len(np.unique(sample.files)) for sample in samples)


def _not_certain(share: Interval, n_files: int) -> Interval:
    """A share of none or of all has nothing that a draw could vary: Wilson's interval for the files."""
    if share.value not in (0.0, 1.0):
        return share
    return wilson(round(share.value * n_files), n_files) or share


# ---------------------------------------------------------------------------------------------------- strata


def by_size(
    photographs: Sample,
    generated: Sample,
    photograph_sides: NDArray[np.float64],
    generated_sides: NDArray[np.float64],
) -> list[Stratum]:
    """Flagged shares by terciles of the face side in pixels, over the faces of both classes."""
    edges = np.unique(np.percentile(np.concatenate([photograph_sides, generated_sides]), [100 / 3, 200 / 3]))
    ours, theirs = (np.searchsorted(edges, sides) for sides in (photograph_sides, generated_sides))
    bounds = ["0", *(f"{edge:.0f}" for edge in edges)]
    names = [f"{low} to {high} px" for low, high in zip(bounds, bounds[1:], strict=False)]
    strata = [
        _stratum(name, photographs.flagged[ours == place], generated.flagged[theirs == place])
        for place, name in enumerate([*names, f"above {bounds[-1]} px"])
    ]
    return [stratum for stratum in strata if stratum.n_photographs + stratum.n_ai_generated]


def by_make(photographs: Sample, makes: Sequence[str | None]) -> list[Stratum]:
    """Flagged shares of photographs by camera make, most faces first, those without one last."""
    named = np.asarray([make or UNKNOWN_MAKE for make in makes], object)
    order = sorted(Counter(named).items(), key=lambda item: (item[0] == UNKNOWN_MAKE, -item[1]))
    nothing = np.zeros(0, np.bool_)
    return [_stratum(make, photographs.flagged[named == make], nothing) for make, _ in order]


def _stratum(name: str, ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> Stratum:
    false_alarm = wilson(int(ours.sum()), len(ours))
    return Stratum(name, len(ours), len(theirs), false_alarm, wilson(int(theirs.sum()), len(theirs)))


# ------------------------------------------------------------------------------------------------- baselines


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What can be known of an image without looking at it.

    Attributes:
        n_bytes: of the file.
        width, height: of its first frame in pixels.
        format: as the decoder names it.
        quantisation: mean of each JPEG quantisation table, in order; empty for other formats.
        make: camera make of `bladescan.exif.tags`; None where there is none. No baseline sees it.
        digest: of the bytes, to tell the same file in two sets. No baseline sees it.
    """

    n_bytes: int
    width: int
    height: int
    format: str
    quantisation: tuple[float, ...] = ()
    make: str | None = None
    digest: bytes = b""


FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
"""Formats that the baseline tells apart; all others are one more."""
MIN_FILES = 5
"""Fewest different files with a face in each set: one for each fold."""


class Features(NamedTuple):
    """What a baseline sees of one set.

    Attributes:
        rows: ``[n, d]``.
        files: ``[n]``, what must not be split between folds; at least `MIN_FILES` different ones.
    """

    rows: NDArray[np.float64]
    files: NDArray[Any]


def file_features(facts: Sequence[FileFacts]) -> NDArray[np.float64]:
    """File size, dimensions, format and quantisation as numbers, ``[n, d]``."""
    return np.asarray([_file_row(fact) for fact in facts], np.float64)


def _file_row(fact: FileFacts) -> list[float]:
    tables = [*fact.quantisation[:2], 0.0, 0.0][:2]
    formats = [float(fact.format == name) for name in FORMATS]
    per_pixel = fact.n_bytes / (fact.width * fact.height)
    return [fact.n_bytes, per_pixel, fact.width, fact.height, *tables, *formats]


def measure_baseline(sets: Mapping[str, Features], *, n_draws: int = 1000, seed: int = 0) -> Baseline:
    """AUC of boosted trees on some features, each file judged by trees that were grown without it.

    Intervals are those of redrawn files, as a head's; the trees are not grown again.

    Args:
        sets: `PHOTOGRAPHS` and at least one generator.
        n_draws: of the bootstrap.
        seed: of folds, trees and draws.
    """
    ours = sets[PHOTOGRAPHS]
    guessed = {name: _guessed(ours, theirs, seed) for name, theirs in sets.items() if name != PHOTOGRAPHS}
    column = MEASURES.index("auc")
    values = {name: draws[:, column] for name, draws in draw_values(guessed, n_draws, seed).items()}
    mean = interval_of(np.mean(list(values.values()), axis=0))
    return Baseline({name: interval_of(draws) for name, draws in values.items()}, mean)


def _guessed(ours: Features, theirs: Features, seed: int) -> tuple[Sample, Sample]:
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    n = len(ours.rows)
    truth = np.repeat([0.0, 1.0], [n, len(theirs.rows)])
    codes = [np.unique(part.files, return_inverse=True)[1] for part in (ours, theirs)]
    groups = np.r_[codes[0], codes[1] + codes[0].max() + 1]
    trees = GradientBoostingClassifier(n_estimators=50, max_depth=2, random_state=seed)
    folds = StratifiedGroupKFold(MIN_FILES, shuffle=True, random_state=seed)
    rows = np.concatenate([ours.rows, theirs.rows])
    p = cross_val_predict(trees, rows, truth, groups=groups, cv=folds, method="predict_proba")[:, 1]
    never = np.zeros(len(p), np.bool_)
    return Sample(p[:n], never[:n], groups[:n]), Sample(p[n:], never[n:], groups[n:])
