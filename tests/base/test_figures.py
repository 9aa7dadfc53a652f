"""Labels that are spread keep their order."""

import numpy as np
import pytest

from bladescan.base.figures import spread_labels


def test_spread_places_keep_their_gap_order_and_mean():
    rng = np.random.default_rng(0)
    for _ in range(20):
        places = np.sort(rng.random(11)).tolist()
        apart = spread_labels(places, 0.07)
        assert np.diff(apart).min() >= 0.07 - 1e-12
        assert np.mean(apart) == pytest.approx(np.mean(places))


def test_places_far_enough_apart_stay():
    assert spread_labels([0.1, 0.3, 0.9], 0.2) == pytest.approx([0.1, 0.3, 0.9])
