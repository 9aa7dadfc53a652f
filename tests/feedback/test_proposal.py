"""A proposed threshold is the conformal one, with weights for what was looked into less."""

from __future__ import annotations

import numpy as np
import pytest

from bladescan.detectors.calibration import compress_calibration, false_alarm_threshold
from bladescan.detectors.manifest import CalibratedHead
from bladescan.feedback.proposal import propose, weighted_threshold
from bladescan.feedback.strata import alike, score_bands
from tests.feedback.decided import AI, PHOTO, read_scan, spread


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (60, 0.05), (61, 0.1), (200, 0.013)])
def test_with_equal_weights_it_is_the_threshold_of_a_calibration(n, rate):
    scores = np.round(np.random.default_rng(n).normal(size=n), 1)  # with ties
    head = CalibratedHead(compress_calibration(-scores), n)
    assert weighted_threshold(scores, np.full(n, 7.0), rate) == -false_alarm_threshold(head, rate)


def test_with_weights_it_is_the_lowest_score_whose_p_value_is_small_enough():
    rng = np.random.default_rng(2)
    scores, weights = np.round(rng.normal(size=80), 1), rng.uniform(1, 6, 80)

    def flags(score: float) -> bool:
        above = sum(w for s, w in zip(scores, weights, strict=True) if s >= score)
        return (max(weights) + above) / (max(weights) + sum(weights)) <= 0.1

    threshold = weighted_threshold(scores, weights, 0.1)
    for score in np.arange(-3, 3, 0.05):
        assert (score > threshold) == flags(score), score


def test_too_few_photographs_give_none():
    assert weighted_threshold(np.zeros(0), np.zeros(0), 0.05) is None
    assert weighted_threshold(np.arange(18.0), np.ones(18), 0.05) is None
    assert weighted_threshold(np.arange(19.0), np.ones(19), 0.05) == 18.0


def test_it_says_what_it_would_have_changed(tmp_path):
    scores = [*spread(30, 2.5, 9), *spread(60, -5, 1.5)]
    decided = dict.fromkeys(range(30), AI) | {number: PHOTO for number in range(30, 90)}
    faces = read_scan(tmp_path, scores, decided)
    found = propose(faces, alike(faces, score_bands(faces)), 0.05)
    # Of 60 photographs 3 may lie at or above: floor(0.05 * 61) = 3, so the third from the top is not flagged.
    assert found.threshold == pytest.approx(scores[87])
    assert (found.n_flagged, found.n_flagged_before, found.n_photographs, found.n_assumed) == (32, 30, 60, 0)
    assert (found.false_alarms, found.false_alarms_before) == (2, 0)
    assert (found.found, found.found_before) == (30, 30)
    assert ((faces.p_values <= found.same_as_rate) == (faces.scores > found.threshold)).all()


def test_what_nobody_looked_at_is_taken_for_photographs_and_counted(tmp_path):
    scores = [*spread(20, 2.5, 9), *spread(180, -5, 1.5)]
    faces = read_scan(tmp_path, scores, dict.fromkeys(range(20), PHOTO))
    found = propose(faces, alike(faces, score_bands(faces)), 0.05)
    assert found.n_assumed == 180 and found.n_photographs == 20
    # All 200 count once: floor(0.05 * 201) = 10 may lie at or above.
    assert found.threshold == pytest.approx(scores[10])
