r"""A threshold for the false-alarm rate asked for, from the photographic faces that reviewers recognised.

It is the conformal rule of `bladescan.detectors.calibration` with weights: a face of a stratum in which one
of ten was looked at stands for ten. With weights :math:`w_i` of the photographic faces' scores :math:`s_i`,

.. math:: p(s) = \frac{w_{max} + \sum_{i : s_i \ge s} w_i}{w_{max} + \sum_i w_i}

and a face is flagged if :math:`p(s)` is at most the rate; equal weights give the unweighted rule.

References:
    Tibshirani, Foygel Barber, Candès and Ramdas, Conformal Prediction Under Covariate Shift, NeurIPS 2019.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.feedback.scanned_faces import FLAGGED, Label, ScannedFaces
from bladescan.feedback.strata import Strata


class Proposal(NamedTuple):
    """A threshold, and what it would have changed in the scan.

    Attributes:
        threshold: a face is flagged if its score is above it.
        false_alarm: the rate asked for.
        n_photographs: recognised by reviewers, which set it.
        n_assumed: faces of parts that nobody looked into, which are taken for photographs.
        same_as_rate: what ``scan --false-alarm`` flags the same faces of this scan; None if no rate does.
        n_flagged, n_flagged_before: faces of the scan.
        false_alarms, false_alarms_before: flagged ones among the faces known to be photographic.
        found, found_before: flagged ones among the faces known to be AI-generated.
    """

    threshold: float
    false_alarm: float
    n_photographs: int
    n_assumed: int
    same_as_rate: float | None
    n_flagged: int
    n_flagged_before: int
    false_alarms: int
    false_alarms_before: int
    found: int
    found_before: int


def propose(faces: ScannedFaces, strata: Strata, rate: float) -> Proposal | None:
    """Propose a threshold.

    Args:
        faces: of the whole scan.
        strata: parts that were looked into alike.
        rate: share of photographic faces that may be flagged, in (0, 1).

    Returns:
        None if the photographs are too few for so small a rate.
    """
    scores, weights, n_assumed = _photographs(faces, strata)
    threshold = weighted_threshold(scores, weights, rate)
    if threshold is None:
        return None
    above = faces.scores > threshold
    before = faces.sides == FLAGGED
    photographic, generated = faces.labels == Label.PHOTOGRAPHIC, faces.labels == Label.AI_GENERATED
    return Proposal(
        threshold,
        rate,
        int(photographic.sum()),
        n_assumed,
        _same_as_rate(faces, above),
        int(above.sum()),
        int(before.sum()),
        int((above & photographic).sum()),
        int((before & photographic).sum()),
        int((above & generated).sum()),
        int((before & generated).sum()),
    )


def weighted_threshold(
    scores: NDArray[np.float64], weights: NDArray[np.float64], rate: float
) -> float | None:
    """Find the lowest of the scores above which faces may be flagged.

    Args:
        scores: of photographs, ``[n]``; higher is more suspicious.
        weights: how many faces each stands for, ``[n]``, positive.
        rate: share of photographs that may be flagged.

    Returns:
        The threshold, None if even the highest score is too low: too few photographs, or too uneven weights.
    """
    if not len(scores):
        return None
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    sums = np.concatenate([[0.0], np.cumsum(weights[order])])
    most = float(weights.max())
    # For a threshold at a score, the weight of those above it: equal scores stand on one side.
    above = sums[np.searchsorted(-ordered, -ordered, side="left")]
    allowed = (most + above) / (most + sums[-1]) <= rate
    return float(ordered[allowed].min()) if allowed.any() else None


def _photographs(faces: ScannedFaces, strata: Strata) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Collect photographs with their weights; of a part that nobody looked into, all faces."""
    scores, weights, n_assumed = [], [], 0
    for index, stratum in enumerate(strata.strata):
        members = strata.of == index
        chosen = members & (faces.labels == Label.PHOTOGRAPHIC)
        weight = stratum.n / stratum.n_sure if stratum.n_sure else 1.0
        if not stratum.n_sure:
            chosen = members
            n_assumed += stratum.n
        scores.append(faces.scores[chosen])
        weights.append(np.full(int(chosen.sum()), weight))
    return np.concatenate([*scores, np.zeros(0)]), np.concatenate([*weights, np.zeros(0)]), n_assumed


def _same_as_rate(faces: ScannedFaces, above: NDArray[np.bool_]) -> float | None:
    """Find a rate for ``scan --false-alarm`` at which just these faces are flagged: their p-values decide."""
    p_values = faces.p_values
    if not above.any() or np.isnan(p_values).any():
        return None
    highest = float(p_values[above].max())
    others = p_values[~above]
    lowest = float(others.min()) if len(others) else 1.0
    rate = math.ceil(highest * 1e6) / 1e6  # p-values are written with six digits
    return rate if highest <= rate < lowest and rate < 1.0 else None
