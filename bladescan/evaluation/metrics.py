"""The metrics of a detector from the scores of faces, with their intervals. It runs no detector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.detectors.manifest import HeadName
from bladescan.evaluation.intervals import bootstrap_interval, redraw_files, wilson_interval
from bladescan.evaluation.report import PHOTOGRAPHS, Interval, Metrics, VariantReport

SCORE_NAMES: dict[HeadName, str] = {
    "one-class": "log-likelihood",
    "binary": "P(AI-generated)",
    "combined": "combined statistic",
}
"""The raw scores of the heads in words."""


def anomaly_scores(head: HeadName, raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn the raw scores of a head so that higher is more AI-generated; the shape stays."""
    return -raw if head == "one-class" else raw


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


def compute_metrics(
    photographs: Sample, generators: Mapping[str, Sample], *, n_draws: int = 1000, seed: int = 0
) -> VariantReport:
    """Compute all metrics of one head, each with the central 95% of what redrawn files would have given.

    Args:
        photographs: at least one face.
        generators: at least one, by name, each with a face.
        n_draws: of the bootstrap.
        seed: of the draws.
    """
    values = bootstrap_metrics(
        {name: (photographs, sample) for name, sample in generators.items()}, n_draws, seed
    )
    each = {name: _metrics(photographs, [sample], values[name]) for name, sample in generators.items()}
    return VariantReport(
        each, _metrics(photographs, generators.values(), np.mean(list(values.values()), axis=0))
    )


def bootstrap_metrics(
    pairs: Mapping[str, tuple[Sample, Sample]], n_draws: int = 1000, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Compute every metric of every generator, as it is and as redrawn files give it.

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
        By generator ``[1 + n_draws, metrics]``, in the order of `METRIC_NAMES`; the first row is undrawn.
    """
    files = {PHOTOGRAPHS: next(iter(pairs.values()))[0].files}
    files |= {name: theirs.files for name, (_, theirs) in pairs.items()}
    rows: dict[str, list[NDArray[np.float64]]] = {name: [] for name in pairs}
    for weights in redraw_files(files, n_draws, seed):
        for name, (ours, theirs) in pairs.items():
            rows[name].append(_values(ours, theirs, weights[PHOTOGRAPHS], weights[name]))
    return {name: np.concatenate(parts) for name, parts in rows.items()}


METRIC_NAMES = tuple(name for name, kind in Metrics.__annotations__.items() if kind == "Interval")
"""Names of the measures in `Metrics`, in order."""

_SHARES = ("tnr", "fpr", "fnr")


def _values(
    photographs: Sample, generated: Sample, ours: NDArray[np.float64], theirs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute ``[draws, metrics]``, in the order of `METRIC_NAMES`, for weights ``[draws, n_faces]``."""
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
    return np.stack([measured[name] for name in METRIC_NAMES], axis=1)


def _share_at_least(
    scores: NDArray[np.float64], weights: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share out the weight at or above each threshold, ``[draws, 1 + thresholds]``; the first is zero."""
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
    found = {name: bootstrap_interval(draws) for name, draws in zip(METRIC_NAMES, values.T, strict=True)}
    n_files = dict.fromkeys(_SHARES, _n_files([photographs])) | {"fnr": _n_files(parts)}
    found |= {name: _not_certain(found[name], n_files[name]) for name in _SHARES}
    return Metrics(len(photographs.anomaly), sum(len(part.anomaly) for part in parts), **found)


def _n_files(samples: Iterable[Sample]) -> int:
    return sum(len(np.unique(sample.files)) for sample in samples)


def _not_certain(share: Interval, n_files: int) -> Interval:
    """Use Wilson's interval over files for a share of none or all, which resampling cannot vary."""
    if share.value not in (0.0, 1.0):
        return share
    return wilson_interval(round(share.value * n_files), n_files) or share
