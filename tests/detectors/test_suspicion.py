"""The score that verdicts are read by."""

import numpy as np
import pytest

from bladescan.detectors.calibration import compress_calibration, p_values
from bladescan.detectors.manifest import CalibratedHead
from bladescan.detectors.suspicion import suspicion, suspicion_threshold


def test_the_one_class_score_is_minus_the_log_likelihood_and_the_binary_one_the_log_odds():
    assert suspicion([-700.0, 3.0], "one-class").tolist() == [700.0, -3.0]
    assert suspicion([-0.5, -0.9], "binary") == pytest.approx([0.0, np.log(9.0)])


def test_it_rises_with_p_and_is_finite_at_its_ends():
    p = np.array([0.0, 1e-300, 1e-9, 0.3, 0.999999, 0.9999999, 1 - 1e-15, 1.0])
    scores = suspicion(-p, "binary")
    assert np.isfinite(scores).all() and (np.diff(scores) > 0).all()
    assert len({f"{score:.6g}" for score in scores}) == len(p)


@pytest.mark.parametrize("name", ["one-class", "binary"])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.5])
def test_a_face_is_flagged_exactly_if_its_score_is_above_the_threshold(name, rate):
    rng = np.random.default_rng(1)
    held_out = -rng.beta(0.3, 1.0, 200)
    head = CalibratedHead(compress_calibration(held_out), 200)
    asked = np.concatenate([held_out, -rng.beta(0.5, 0.5, 1000)])
    above = suspicion(asked, name) > suspicion_threshold(head, name, rate)
    assert (above == (p_values(head, asked) <= rate)).all()
