import math

import numpy as np
import pytest

from bladescan.detectors.dependence import dependences, independence_p, rank_correlation


def test_rank_correlation_is_spearmans_by_a_loop():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=40), rng.integers(0, 5, 40)

    def ranks(values):
        return [sum(v < w for v in values) + (sum(v == w for v in values) + 1) / 2 for w in values]

    assert rank_correlation(x, y) == pytest.approx(np.corrcoef(ranks(x), ranks(y))[0, 1])
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1.0)
    assert rank_correlation(x, np.ones(40)) == 0.0


def test_the_chi_square_of_a_table_that_can_be_counted_by_hand():
    # Two scores in the same order: four full cells of n / 4, twelve empty ones; chi-square is 3 n.
    x = np.arange(8.0)
    chi, nine_halves = 24.0, 9 / 2
    # The tail of nine degrees of freedom by a plain sum over its density.
    steps = np.linspace(chi, 400, 400_001)
    density = steps ** (nine_halves - 1) * np.exp(-steps / 2) / (2**nine_halves * math.gamma(nine_halves))
    tail = float(((density[1:] + density[:-1]) / 2 * np.diff(steps)).sum())
    assert independence_p(x, x) == pytest.approx(tail, rel=1e-6)
    assert independence_p(x, np.ones(8)) == 1.0


def test_independent_scores_are_seldom_called_dependent_and_dependent_ones_always():
    rng = np.random.default_rng(1)
    p = [independence_p(*rng.normal(size=(2, 200))) for _ in range(500)]
    assert (np.array(p) < 0.05).mean() < 0.08
    x = rng.normal(size=300)
    assert independence_p(x, x**2) < 1e-6 and abs(rank_correlation(x, x**2)) < 0.2


def test_every_pair_is_measured_once():
    found = dependences(np.random.default_rng(2).normal(size=(100, 3)))
    assert [(pair.first, pair.second) for pair in found] == [(0, 1), (0, 2), (1, 2)]
