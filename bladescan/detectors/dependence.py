"""How much two scores depend on each other on photographs: what a combination must reckon with."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BINS = 4
SURE = 0.05
"""A pair whose independence is less likely than this is said to be dependent."""


class Dependence(NamedTuple):
    """Of two scores on photographs.

    Attributes:
        first, second: which, by their columns.
        rank_correlation: Spearman's, in [-1, 1].
        p_value: of the chi-square test of independence.
    """

    first: int
    second: int
    rank_correlation: float
    p_value: float


def dependences(scores: NDArray[np.float64]) -> list[Dependence]:
    """Measure the dependence of each pair of columns of scores ``[n, k]``, n at least 2."""
    pairs = combinations(range(scores.shape[1]), 2)
    return [
        Dependence(
            i, j, rank_correlation(scores[:, i], scores[:, j]), independence_p(scores[:, i], scores[:, j])
        )
        for i, j in pairs
    ]


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Compute Spearman's rank correlation of ``[n]`` and ``[n]``; 0 where one is constant."""
    x, y = (_ranks(values) - (np.size(values) + 1) / 2 for values in (first, second))
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale else 0.0


def independence_p(first: ArrayLike, second: ArrayLike) -> float:
    """Test independence by Pearson's chi-square over the quarters of both, 4 x 4 cells.

    Returns:
        The chance that independent scores differ as much from independence. The test needs some eighty
        photographs: five in each cell.
    """
    quarters = [np.ceil(_BINS * _ranks(x) / np.size(x)).astype(int) - 1 for x in (first, second)]
    counts = np.zeros((_BINS, _BINS))
    np.add.at(counts, tuple(quarters), 1)
    expected = counts.sum(1)[:, None] * counts.sum(0) / counts.sum()
    there = expected > 0
    return _chi_square_tail(float(((counts - expected)[there] ** 2 / expected[there]).sum()))


def _ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Rank from 1; equals share the mean of their ranks."""
    given = np.asarray(values, np.float64)
    ordered = np.sort(given)
    below, upto = (np.searchsorted(ordered, given, side=side) for side in ("left", "right"))
    ranks: NDArray[np.float64] = (below + upto + 1) / 2
    return ranks


def _chi_square_tail(x: float) -> float:
    r"""Compute P(chi-square with 9 degrees of freedom > x); for an odd number there is a finite sum.

    .. math:: 2 \Phi(-\sqrt x)
              + 2 \varphi(\sqrt x) \sum_{r=1}^{4} \frac{x^{r - 1/2}}{1 \cdot 3 \cdots (2r - 1)}
    """
    normal, root = NormalDist(), math.sqrt(x)
    term, total = root, 0.0
    for r in range(1, ((_BINS - 1) ** 2 - 1) // 2 + 1):
        total += term
        term *= x / (2 * r + 1)
    return min(1.0, 2 * normal.cdf(-root) + 2 * normal.pdf(root) * total)
