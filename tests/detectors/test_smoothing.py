"""P-values without steps, against the conformal ones that they must never undercut."""

import numpy as np
import pytest

from bladescan.detectors.calibration import compress_calibration, p_values
from bladescan.detectors.manifest import CalibratedHead
from bladescan.detectors.smoothing import smooth_p_values
from bladescan.detectors.suspicion import suspicion


def head_of(scores, max_stored=4096):
    return CalibratedHead(compress_calibration(scores, max_stored), len(scores))


def test_between_held_out_scores_it_is_a_straight_line():
    head = head_of([0.0, -1.0, -3.0])
    asked = [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0]
    assert smooth_p_values(head, "one-class", asked).tolist() == [1.0, 1.0, 0.875, 0.75, 0.625, 0.5]


@pytest.mark.parametrize("n", [1, 2, 3, 110, 500])
@pytest.mark.parametrize("max_stored", [4096, 32])
@pytest.mark.parametrize("name", ["one-class", "binary"])
def test_it_is_never_below_the_conformal_p_value(n, max_stored, name):
    rng = np.random.default_rng(n)
    scores = -rng.uniform(size=n).round(2)  # ties, and for the binary head P of 0 and 1
    head = head_of(scores, max_stored)
    asked = np.concatenate([scores, -rng.uniform(size=500), [-1.0, 0.0]])
    smooth = smooth_p_values(head, name, suspicion(asked, name))
    assert (smooth >= p_values(head, asked) * (1 - 1e-12)).all()
    assert (smooth <= 1.0).all()


def test_it_falls_as_the_score_rises_and_stays_above_what_the_photographs_can_show():
    held_out = -np.random.default_rng(0).gamma(2.0, 1.0, 110)
    head = head_of(held_out)
    asked = np.linspace(-held_out.max(), -held_out.min() + 10.0, 1000)
    smooth = smooth_p_values(head, "one-class", asked)
    assert (np.diff(smooth) < 0).all()
    assert len(np.unique(p_values(head, -asked))) <= 111
    assert smooth.min() > 1 / 111
    assert smooth_p_values(head, "one-class", 1e9) == 1 / 111


def test_held_out_scores_that_are_all_equal_have_a_tail_too():
    smooth = smooth_p_values(head_of([-1.0] * 4), "one-class", [0.0, 1.0, 2.0])
    assert smooth[:2].tolist() == [1.0, 1.0] and 0.2 < smooth[2] < 1.0


def test_a_photograph_is_at_or_below_any_rate_with_at_most_that_probability():
    rng = np.random.default_rng(0)
    rates, below = np.array([0.02, 0.05, 0.3]), []
    for _ in range(4000):
        held_out, new = rng.normal(size=49), rng.normal()
        below.append(smooth_p_values(head_of(held_out), "one-class", -new) <= rates)
    assert (np.mean(below, 0) <= rates + 3 * np.sqrt(rates / 4000)).all()
