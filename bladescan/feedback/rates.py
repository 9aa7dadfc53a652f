r"""How often a scan is wrong, from the faces that reviewers looked at: shares with their 95% intervals.

Of each stratum, n of N faces were looked at and k of them are AI-generated. The number K of AI-generated
faces among all N has an exact interval, by the hypergeometric distribution. A rate of the scan is a quotient
of sums of such numbers, and rises or falls with each; so it lies between its values at the ends of the
intervals. They are taken at the confidence :math:`1 - 0.05/h` for the h strata that were not looked at
completely, so that all of them hold together with 95% (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.detectors.calibration import clopper_pearson
from bladescan.feedback.scanned_faces import FLAGGED, SIDES
from bladescan.feedback.strata import ScoreStratum

CONFIDENCE = 0.95
NOT_FLAGGED = len(SIDES) - 1


class MeasuredShare(NamedTuple):
    """So many of so many, with the exact interval of the probability; of none it is [0, 1]."""

    n_found: int
    n: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        """The share, None of nothing."""
        return self.n_found / self.n if self.n else None


class RateBounds(NamedTuple):
    """A rate of the whole scan.

    Attributes:
        estimate: None where a part of the scan was not looked at, so that nobody can know.
        low, high: between which it lies; 0 and 1 where nothing is known.
    """

    estimate: float | None
    low: float
    high: float


class ScanRates(NamedTuple):
    """The rates of a whole scan.

    Attributes:
        false_alarm: share of the photographic faces that are flagged.
        missed: share of the AI-generated faces that are not flagged.
        false_among_flagged: share of the flagged faces that are photographic.
        ai_generated: share of all faces that are AI-generated.
    """

    false_alarm: RateBounds
    missed: RateBounds
    false_among_flagged: RateBounds
    ai_generated: RateBounds


def measured_share(count: int, n: int) -> MeasuredShare:
    """Make a share of what was looked at, with the interval of Clopper and Pearson."""
    low, high = clopper_pearson(count, n, CONFIDENCE) if n else (0.0, 1.0)
    return MeasuredShare(count, n, low, high)


def total_interval(count: int, n: int, total: int, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """Compute the exact interval of how many of ``total`` there are, when ``count`` of ``n`` drawn were.

    Args:
        count: found among those drawn.
        n: drawn at random, without putting back.
        total: that they were drawn from.
        confidence: of the interval, in (0, 1).

    Returns:
        The smallest and the largest number that the draw does not contradict.
    """
    tail = (1.0 - confidence) / 2.0
    # To find so many is unlikelier the fewer there are, and to find so few the more there are.
    low = _first(count, total - n + count, lambda k: _tail(k, n, total, np.arange(count, n + 1)) > tail)
    high = _first(low, total - n + count + 1, lambda k: _tail(k, n, total, np.arange(count + 1)) <= tail)
    return low, max(low, high - 1)


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Find the first number from low on for which something holds, and then for all others, else high."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _tail(k: int, n: int, total: int, found: NDArray[np.int64]) -> float:
    """Sum the probabilities of finding some numbers among ``n`` drawn of ``total`` that have ``k``."""
    possible = found[(found >= max(0, n - (total - k))) & (found <= min(n, k))]
    ways = _ln_ways(k, possible) + _ln_ways(total - k, n - possible) - _ln_ways(total, np.array([n]))
    return float(np.exp(ways).sum())


def _ln_ways(n: int, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    factorials = _ln_factorials(n)
    ways: NDArray[np.float64] = factorials[n] - factorials[chosen] - factorials[n - chosen]
    return ways


_FACTORIALS: NDArray[np.float64] = np.zeros(1)


def _ln_factorials(n: int) -> NDArray[np.float64]:
    """Return ln(i!) for i from 0 to n or more; computed once for the largest n so far."""
    global _FACTORIALS
    if n >= len(_FACTORIALS):
        _FACTORIALS = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    return _FACTORIALS


def scan_rates(strata: Sequence[ScoreStratum]) -> ScanRates:
    """Estimate the rates of a whole scan; what nobody looked at leaves a rate without an estimate."""
    n_open = sum(stratum.n_sure < stratum.n for stratum in strata)
    confidence = 1.0 - (1.0 - CONFIDENCE) / max(1, n_open)
    few, many = np.zeros(len(SIDES)), np.zeros(len(SIDES))
    guess: NDArray[np.float64] | None = np.zeros(len(SIDES))
    n = np.zeros(len(SIDES))
    for stratum in strata:
        low, high = total_interval(stratum.n_ai_generated, stratum.n_sure, stratum.n, confidence)
        few[stratum.side] += low
        many[stratum.side] += high
        n[stratum.side] += stratum.n
        if guess is not None and stratum.n_sure:
            guess[stratum.side] += stratum.n * stratum.n_ai_generated / stratum.n_sure
        else:
            guess = None
    return ScanRates(
        # The more flagged faces are AI-generated and the fewer others, the lower.
        false_alarm=_bounds(lambda ai: (n - ai)[FLAGGED], lambda ai: (n - ai).sum(), guess,
                            _mixed(many, few), _mixed(few, many)),
        missed=_bounds(lambda ai: ai[NOT_FLAGGED], lambda ai: ai.sum(), guess,
                       _without(few, many), _without(many, few)),
        false_among_flagged=_bounds(lambda ai: (n - ai)[FLAGGED], lambda ai: n[FLAGGED], guess, many, few),
        ai_generated=_bounds(lambda ai: ai.sum(), lambda ai: n.sum(), guess, few, many),
    )  # fmt: skip


def _mixed(flagged: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.arange(len(SIDES)) == FLAGGED, flagged, others)


def _without(missed: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.arange(len(SIDES)) == NOT_FLAGGED, missed, others)


_Sum = Callable[[NDArray[np.float64]], float]


def _bounds(
    part: _Sum,
    whole: _Sum,
    guess: NDArray[np.float64] | None,
    lowest: NDArray[np.float64],
    highest: NDArray[np.float64],
) -> RateBounds:
    def rate(ai: NDArray[np.float64]) -> float | None:
        return float(part(ai) / whole(ai)) if whole(ai) > 0 else None

    low, high = rate(lowest), rate(highest)
    estimate = None if guess is None else rate(guess)
    return RateBounds(estimate, 0.0 if low is None else low, 1.0 if high is None else high)
