"""The scores of tiles as the score of their picture, against the formulas written out."""

from math import exp, log

import numpy as np
import pytest

from bladescan.base.records import Scores
from bladescan.detectors.tile_scores import join_scores, tile_counts


def logit(p):
    return log(p / (1 - p))


def logistic(x):
    return 1 / (1 + exp(-x))


P = np.array([0.2, 0.9, 0.7, 0.4, 0.6, 0.123456789])
LIKELIHOOD = np.array([-3.0, -9.0, -1.0, -5.0, -2.0, -7.5])
SCORES = Scores(LIKELIHOOD, P, np.arange(12, dtype=np.float32).reshape(6, 2))


def test_the_mean_is_taken_of_log_odds_and_of_log_likelihoods():
    found = join_scores(SCORES, [2, 3, 1], "mean")
    wanted = [logistic((logit(0.2) + logit(0.9)) / 2), logistic((logit(0.7) + logit(0.4) + logit(0.6)) / 3)]
    np.testing.assert_allclose(found.p_ai_generated[:2], wanted, rtol=1e-12)
    np.testing.assert_allclose(found.log_likelihood, [-6.0, -8 / 3, -7.5], rtol=1e-12)
    assert found.embedding.tolist() == [[1, 2], [6, 7], [10, 11]]


def test_the_top_is_the_most_suspicious_quarter_rounded_up():
    found = join_scores(SCORES, [5, 1], "top")
    np.testing.assert_allclose(found.p_ai_generated[0], logistic((logit(0.9) + logit(0.7)) / 2), rtol=1e-12)
    np.testing.assert_allclose(found.log_likelihood[0], (-9 - 5) / 2, rtol=1e-12)


@pytest.mark.parametrize("join", ["mean", "top"])
def test_one_tile_keeps_its_score_bit_for_bit(join):
    alone = join_scores(SCORES, [5, 1], join)
    assert alone.p_ai_generated[1] == P[5] and alone.log_likelihood[1] == LIKELIHOOD[5]
    assert join_scores(SCORES, [1] * 6, join) is SCORES


def test_a_picture_says_the_same_whatever_stands_beside_it():
    together = join_scores(SCORES, [2, 4], "mean")
    apart = join_scores(Scores(*(part if part is None else part[2:] for part in SCORES)), [4], "mean")
    assert together.p_ai_generated[1] == apart.p_ai_generated[0]


def test_tiles_are_counted_by_picture_in_the_order_of_the_pictures():
    assert tile_counts(np.array(["b", "b", "a", "c", "c", "c"])) == [2, 1, 3]
    assert tile_counts(np.array(["b"])) == [1] and tile_counts(np.array([], str)) == []


def test_certain_tiles_stay_finite_and_between_0_and_1():
    certain = Scores(None, np.array([0.0, 0.0, 1.0, 1.0, 1e-300, 0.5]), np.zeros((6, 1), np.float32))
    found = join_scores(certain, [2, 2, 2], "mean").p_ai_generated
    assert np.isfinite(found).all() and found[0] < 1e-300 and found[1] > 1 - 1e-15
    np.testing.assert_allclose(found[2], 1e-150, rtol=1e-9)
