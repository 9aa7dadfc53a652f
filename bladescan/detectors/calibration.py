"""From scores to p-values, and to thresholds at a chosen false-alarm rate. NumPy only; it fits no head.

Scores here are photographic scores: higher is more photographic (log-likelihoods, or -P(AI-generated)).
A head stores the scores of ``n`` photographs held out from its fit. By exchangeability a new photograph's
rank among them is uniform, so its conformal p-value falls at or below a rate with at most that probability.
Every verdict follows the one rule ``p_value <= rate``; a threshold is the same rule solved for the score.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bladescan.base.errors import DataError, DetectorError, UsageError
from bladescan.base.records import Scores
from bladescan.base.text import counted
from bladescan.detectors.manifest import CalibratedHead, HeadName

MAX_STORED = 4096
"""Most held-out scores that a manifest stores."""


def photographic_scores(scores: Scores, head: HeadName) -> NDArray[np.float64]:
    """Return the scores that a head decides by.

    Args:
        scores: of ``n`` crops.
        head: ``one-class`` decides by the log-likelihood, ``binary`` by -P(AI-generated), ``combined`` by
            minus the combined statistic.

    Returns:
        float64 ``[n]``; higher is more photographic.

    Raises:
        UsageError: the detector has no such head.
    """
    by_head = {"one-class": scores.log_likelihood, "combined": scores.combined}
    found = by_head.get(head, scores.p_ai_generated)
    if found is None:
        raise UsageError(f"the detector has no {head} head: see bladescan info")
    return -found if head == "binary" else found


def compress_calibration(scores: ArrayLike, max_stored: int = MAX_STORED) -> tuple[float, ...]:
    """Reduce held-out scores to what a manifest stores: ascending, at most ``max_stored`` of them.

    Half of the places keep the lowest scores one by one, because small false-alarm rates are decided there;
    the rest are spread evenly over the other ranks.

    Args:
        scores: photographic scores of held-out photographs, ``[n]``, finite.
        max_stored: even, at least 2.

    Raises:
        ValueError: no score, or one that is not finite.
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    if not len(ordered) or not np.isfinite(ordered).all():
        raise ValueError("calibration needs at least one score, all of them finite")
    ranks = stored_ranks(len(ordered), min(len(ordered), max_stored))
    return tuple(ordered[ranks - 1].tolist())


def p_values(head: CalibratedHead, scores: ArrayLike) -> NDArray[np.float64]:
    r"""Compute conformal p-values: how common scores this low are among held-out photographs.

    .. math:: p(s) = \frac{1 + \#\{i : h_i \le s\}}{n + 1}

    Between stored quantiles the count is rounded up, so that a p-value is never too small. By folders, see
    `bladescan.detectors.collections`.

    Args:
        head: its calibration and ``n_held_out``.
        scores: photographic scores of any shape.

    Returns:
        Of the same shape, in (0, 1].
    """
    place = np.searchsorted(np.asarray(head.calibration), np.asarray(scores, np.float64), side="right")
    return p_value_steps(head)[place]


def p_value_steps(head: CalibratedHead) -> NDArray[np.float64]:
    """List the p-values there are, by how many of the m stored scores are at or below a score.

    Returns:
        float64 ``[m + 1]``, never falling, in (0, 1].
    """
    if head.steps:
        return np.asarray(head.steps, np.float64)
    return (1.0 + _ceilings(head).astype(np.float64)) / (head.n_held_out + 1.0)


def lowest_p_value(head: CalibratedHead) -> float:
    """Compute the p-value of a face beyond every held-out photograph: no rate below it can be had."""
    return float(p_value_steps(head)[0])


def photographs_behind(head: CalibratedHead, p_value: float) -> int:
    """Count the held-out photographs that are as suspicious as a face with a p-value, or more."""
    place = int(np.searchsorted(p_value_steps(head), p_value + 1e-12, side="right")) - 1
    return int(_ceilings(head)[max(place, 0)])


def held_out_told(head: CalibratedHead) -> str:
    """Say what a calibration consists of: ``110 held-out photographs``, or those of so many folders."""
    folders = f" of {counted(head.n_folders, 'folder')}" if head.n_folders else ""
    return f"{counted(head.n_held_out, 'held-out photograph')}{folders}"


def _ceilings(head: CalibratedHead) -> NDArray[np.int64]:
    # Stored rank j + 1 is above s, so at most that rank - 1 held-out scores are at or below s.
    n = head.n_held_out
    return np.append(stored_ranks(n, len(head.calibration)) - 1, n)


def false_alarm_threshold(head: CalibratedHead, rate: float) -> float:
    """Compute the score below which a face is called AI-generated at a false-alarm rate.

    Args:
        head: its calibration and ``n_held_out``.
        rate: accepted share of photographs that are called AI-generated, in (0, 1).

    Returns:
        The threshold t: ``s < t`` exactly if ``p_values(head, s) <= rate``.

    Raises:
        UsageError: the rate is out of range, or too small for the number of held-out photographs or folders.
    """
    check_rate(rate, "false-alarm rate")
    steps = p_value_steps(head)
    if steps[0] > rate:
        raise UsageError(_too_small(head, rate))
    return float(head.calibration[int(np.searchsorted(steps, rate, side="right")) - 1])


def _too_small(head: CalibratedHead, rate: float) -> str:
    needed, lowest = needed_photographs(rate), math.ceil(lowest_p_value(head) * 1e4) / 1e4
    if head.by == "file":
        return _too_few(head.n_held_out, rate)
    if head.by == "folder":
        return (
            f"a false-alarm rate of {rate:g} for folders that are not there needs at least {needed} folders, "
            f"the detector was calibrated on {head.n_folders}: ask for {lowest:g} or more, or calibrate on "
            "more folders"
        )
    return (
        f"a false-alarm rate of {rate:g} needs at least {needed} held-out photographs in each folder, the "
        f"smallest of the detector's {head.n_folders} has fewer: ask for {lowest:g} or more, or calibrate on "
        "more photographs"
    )


def needed_photographs(rate: float) -> int:
    """Compute how many held-out photographs are needed for a p-value as small as ``rate``."""
    return math.ceil(1.0 / rate - 1.0 - 1e-9)


def false_alarm_interval(n: int, rate: float, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the interval of the realised false-alarm rate for a threshold calibrated on ``n`` photographs.

    The threshold is the k-th lowest of n held-out scores, k = floor(rate (n + 1)), so the share of all
    photographs below it follows Beta(k, n + 1 - k) over the draw of the held-out ones.

    Args:
        n: held-out photographs.
        rate: the false-alarm rate that was asked for.
        confidence: probability of the central interval.

    Raises:
        UsageError: the rate is out of range or too small for ``n``.
    """
    k = _allowed_rank(n, rate)
    tail = (1.0 - confidence) / 2.0
    return _beta_quantile(tail, k, n + 1 - k), _beta_quantile(1.0 - tail, k, n + 1 - k)


def clopper_pearson(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the exact confidence interval of a probability, after ``count`` successes in ``n`` trials.

    Args:
        count: successes.
        n: trials, at least 1.
        confidence: of the interval, in (0, 1).

    Returns:
        Its ends, in [0, 1].

    Raises:
        ValueError: ``count`` is not in [0, n], or n is 0.

    References:
        Clopper and Pearson, Biometrika 26 (1934), 404-413.
    """
    if not 0 <= count <= n or n == 0:
        raise ValueError(f"{count} of {n} is no share")
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if count == 0 else _beta_quantile(tail, count, n - count + 1)
    high = 1.0 if count == n else _beta_quantile(1.0 - tail, count + 1, n - count)
    return low, high


def hold_out(
    n: int, share: float, rng: np.random.Generator, groups: ArrayLike | None = None
) -> NDArray[np.bool_]:
    """Draw the samples to keep out of a fit; a group is never split.

    Groups are taken in random order and held out while they fit into ``share`` of the samples; if none fits,
    the smallest is held out.

    Args:
        n: samples.
        share: of them, in (0, 1).
        rng: random numbers for the draw.
        groups: ``[n]`` labels, None if every sample is its own group.

    Returns:
        Bool ``[n]``, true for held out.

    Raises:
        DataError: there are not two groups.
    """
    _, inverse, counts = np.unique(
        np.arange(n) if groups is None else np.asarray(groups), return_inverse=True, return_counts=True
    )
    if len(counts) < 2:
        raise DataError("nothing can be held out: the photographs form fewer than two groups")
    held = np.zeros(len(counts), np.bool_)
    room = share * n
    for group in rng.permutation(len(counts)):
        if counts[group] <= room:
            held[group] = True
            room -= counts[group]
    if not held.any():
        held[counts.argmin()] = True
    return held[inverse]


def check_calibration(head: CalibratedHead, *, where: str) -> None:
    """Raise DetectorError unless the stored calibration can be used: present, finite, ascending."""
    stored = np.asarray(head.calibration, np.float64)
    if not 0 < len(stored) <= MAX_STORED or head.n_held_out < len(stored):
        raise DetectorError(
            f"{where}: {len(stored)} calibration scores for {head.n_held_out} held-out photographs: "
            f"expected 1 to {MAX_STORED}, and no more than photographs"
        )
    if not np.isfinite(stored).all() or (np.diff(stored) < 0).any():
        raise DetectorError(f"{where}: calibration scores must be finite and ascending")
    steps = np.asarray(head.steps, np.float64)
    if (head.by == "file") != (not head.steps) or (head.by == "file") != (head.n_folders == 0):
        raise DetectorError(f"{where}: p-values by folder need their steps and folders, others have neither")
    if head.steps and (
        len(steps) != len(stored) + 1
        or not 0.0 < steps[0] <= steps[-1] <= 1.0
        or not (np.diff(steps) >= 0.0).all()
    ):
        raise DetectorError(f"{where}: {len(steps)} p-values of {len(stored)} calibration scores must rise")


def stored_ranks(n: int, n_stored: int) -> NDArray[np.int64]:
    """Compute the ranks (1 is the lowest score) of the stored scores among the n held-out ones."""
    if n_stored >= n:
        return np.arange(1, n + 1)
    low = n_stored // 2
    n_high = n_stored - low
    high = low + (np.arange(1, n_high + 1) * (n - low) + n_high - 1) // n_high
    return np.concatenate([np.arange(1, low + 1), high])


def _allowed_rank(n: int, rate: float) -> int:
    """Find the largest k with k / (n + 1) <= rate, compared as `p_values` computes it."""
    check_rate(rate, "false-alarm rate")
    k = math.floor(rate * (n + 1)) + 1
    while k > 0 and k / (n + 1.0) > rate:
        k -= 1
    if k == 0:
        raise UsageError(_too_few(n, rate))
    return k


def _too_few(n: int, rate: float) -> str:
    return (
        f"a false-alarm rate of {rate:g} needs at least {needed_photographs(rate)} held-out "
        f"photographs, the detector has {n}: ask for {1 / (n + 1):.2g} or more, or calibrate "
        "on more photographs"
    )


def check_rate(rate: float, what: str) -> None:
    """Raise UsageError unless a rate lies between 0 and 1; ``what`` names it."""
    if not 0.0 < rate < 1.0:
        raise UsageError(f"the {what} must lie between 0 and 1, got {rate:g}")


def _beta_quantile(q: float, a: int, b: int) -> float:
    """Find the quantile of Beta(a, b) by halving: for whole a and b its distribution is a binomial tail."""
    n = a + b - 1
    steps = np.arange(a, n + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    ways = factorials[n] - factorials[steps] - factorials[n - steps]
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2.0) < high:
        terms = ways + steps * math.log(middle) + (n - steps) * math.log1p(-middle)
        low, high = (middle, high) if np.exp(terms).sum() < q else (low, middle)
    return low
