"""The metrics of an evaluation against naive loops, scikit-learn and cases with a known answer."""

from __future__ import annotations

import numpy as np

from bladescan.evaluation import anomaly_scores


def test_higher_anomaly_is_more_ai_generated_for_either_head():
    raw = np.asarray([0.2, 0.9])
    assert anomaly_scores("one-class", raw).argmax() == 0  # the lower log-likelihood
    assert anomaly_scores("binary", raw).argmax() == 1  # the higher probability
