"""Shares of parts of the faces."""

from __future__ import annotations

import numpy as np

from bladescan.evaluation.metrics import Sample
from bladescan.evaluation.report import UNKNOWN_MAKE
from bladescan.evaluation.strata import by_make, by_size


def sample(scores, threshold: float = 0.0, files=None) -> Sample:
    """Faces flagged above a threshold, each its own file unless said otherwise."""
    anomaly = np.asarray(scores, np.float64)
    return Sample(anomaly, anomaly > threshold, np.arange(len(anomaly)) if files is None else files)


def test_strata_by_size_part_all_faces_in_three():
    photographs, generated = sample(np.r_[np.ones(10), -np.ones(20)]), sample(np.ones(30))
    sides = np.arange(1, 61, dtype=float)
    small, middle, large = by_size(photographs, generated, sides[:30], sides[30:])
    counts = [(s.n_photographs, s.n_ai_generated) for s in (small, middle, large)]
    assert counts == [(20, 0), (10, 10), (0, 20)]
    assert small.false_alarm.value == 0.5 and small.found is None
    assert large.false_alarm is None and large.found.value == 1
    assert small.name == "0 to 21 px" and large.name == "above 40 px"


def test_faces_of_one_size_are_one_stratum():
    only = by_size(sample([1.0] * 4), sample([1.0] * 4), np.full(4, 80.0), np.full(4, 80.0))
    assert [(s.name, s.n_photographs, s.n_ai_generated) for s in only] == [("0 to 80 px", 4, 4)]


def test_makes_are_counted_and_photographs_without_one_come_last():
    makes = [None, "Nikon", "Canon", "Canon", None, None, "Canon", None]
    strata = by_make(sample([1, 1, -1, -1, 1, 1, -1, -1]), makes)
    assert [(s.name, s.n_photographs, s.false_alarm.value) for s in strata] == [
        ("Canon", 3, 0),
        ("Nikon", 1, 1),
        (UNKNOWN_MAKE, 4, 0.75),
    ]
