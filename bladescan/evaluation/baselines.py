"""What sees no face: how far boosted trees come by facts of the files, as a yardstick for a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.evaluation.intervals import bootstrap_interval
from bladescan.evaluation.metrics import METRIC_NAMES, Sample, bootstrap_metrics
from bladescan.evaluation.report import PHOTOGRAPHS, Baseline


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Facts of an image file that can be known without looking at the picture.

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


TOLD_APART = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
"""Formats that the baseline tells apart; all others are one more. Measured numbers depend on the list."""

MIN_FILES = 5
"""Fewest different files with a face in each set: one for each fold."""


class BaselineFeatures(NamedTuple):
    """The numbers that a baseline sees of one set.

    Attributes:
        rows: ``[n, d]``.
        files: ``[n]``, what must not be split between folds; at least `MIN_FILES` different ones.
    """

    rows: NDArray[np.float64]
    files: NDArray[Any]


def file_features(facts: Sequence[FileFacts]) -> NDArray[np.float64]:
    """Turn file size, dimensions, format and quantisation into numbers, ``[n, d]``."""
    return np.asarray([_file_row(fact) for fact in facts], np.float64)


def _file_row(fact: FileFacts) -> list[float]:
    tables = [*fact.quantisation[:2], 0.0, 0.0][:2]
    formats = [float(fact.format == name) for name in TOLD_APART]
    per_pixel = fact.n_bytes / (fact.width * fact.height)
    return [fact.n_bytes, per_pixel, fact.width, fact.height, *tables, *formats]


def measure_baseline(sets: Mapping[str, BaselineFeatures], *, n_draws: int = 1000, seed: int = 0) -> Baseline:
    """Measure the AUC of boosted trees on some features, each file judged by trees grown without it.

    Intervals are those of redrawn files, as a head's; the trees are not grown again.

    Args:
        sets: `PHOTOGRAPHS` and at least one generator.
        n_draws: of the bootstrap.
        seed: of folds, trees and draws.
    """
    ours = sets[PHOTOGRAPHS]
    guessed = {name: _guessed(ours, theirs, seed) for name, theirs in sets.items() if name != PHOTOGRAPHS}
    column = METRIC_NAMES.index("auc")
    values = {name: draws[:, column] for name, draws in bootstrap_metrics(guessed, n_draws, seed).items()}
    mean = bootstrap_interval(np.mean(list(values.values()), axis=0))
    return Baseline({name: bootstrap_interval(draws) for name, draws in values.items()}, mean)


def _guessed(ours: BaselineFeatures, theirs: BaselineFeatures, seed: int) -> tuple[Sample, Sample]:
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
