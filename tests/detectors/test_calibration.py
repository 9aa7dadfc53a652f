import math

import numpy as np
import pytest

from bladescan.base.errors import DataError, DetectorError, UsageError
from bladescan.detectors.calibration import (
    check_calibration,
    clopper_pearson,
    compress_calibration,
    false_alarm_interval,
    false_alarm_threshold,
    hold_out,
    needed_photographs,
    p_values,
)
from bladescan.detectors.manifest import CalibratedHead


def head_of(scores, max_stored=4096):
    return CalibratedHead(compress_calibration(scores, max_stored), len(scores))


def test_a_p_value_counts_held_out_scores_at_or_below():
    held_out = [3.0, 1.0, 2.0, 2.0]
    scores = [0.5, 1.0, 1.5, 2.0, 9.0]
    naive = [(1 + sum(h <= s for h in held_out)) / (len(held_out) + 1) for s in scores]
    assert p_values(head_of(held_out), scores).tolist() == naive


def test_p_values_keep_their_shape_and_take_an_empty_batch():
    assert p_values(head_of([1.0, 2.0]), np.zeros((2, 3))).shape == (2, 3)
    assert p_values(head_of([1.0, 2.0]), []).shape == (0,)


def test_compressed_p_values_are_never_too_small_and_exact_in_the_lower_tail():
    scores = np.random.default_rng(0).normal(size=1000)
    asked = np.concatenate([scores, np.linspace(-4, 4, 500)])
    exact, stored = p_values(head_of(scores), asked), p_values(head_of(scores, 100), asked)
    assert len(head_of(scores, 100).calibration) == 100
    assert (stored >= exact).all()
    assert (stored - exact).max() <= (math.ceil(950 / 50) - 1) / 1001 + 1e-12
    low = exact <= 50 / 1001
    assert low.any() and (stored[low] == exact[low]).all()


@pytest.mark.parametrize("n", [1, 2, 19, 20, 99, 100, 257])
@pytest.mark.parametrize("max_stored", [4096, 32])
def test_threshold_and_p_value_agree_exactly(n, max_stored):
    scores = np.random.default_rng(n).normal(size=n).round(1)  # rounding makes ties
    head = head_of(scores, max_stored)
    around = np.concatenate([scores, np.nextafter(scores, -9), np.nextafter(scores, 9), [-9.0, 9.0]])
    rates = [k / (n + 1) for k in range(1, n + 1)] + [0.05, 0.07, 0.29, 0.5, 0.9999]
    for rate in rates:
        if needed_photographs(rate) <= n:
            threshold = false_alarm_threshold(head, rate)
            assert ((around < threshold) == (p_values(head, around) <= rate)).all()


def test_a_rate_too_small_for_the_photographs_says_how_many_it_needs():
    head = head_of(np.arange(18.0))
    with pytest.raises(UsageError, match="needs at least 19 held-out photographs, the detector has 18"):
        false_alarm_threshold(head, 0.05)
    assert false_alarm_threshold(head_of(np.arange(19.0)), 0.05) == 0.0
    assert needed_photographs(0.05) == 19


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 5.0, math.nan])
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(UsageError, match="must lie between 0 and 1"):
        false_alarm_threshold(head_of([1.0, 2.0]), rate)


def test_the_false_alarm_rate_holds_on_average_over_draws():
    rng = np.random.default_rng(0)
    realised = []
    for _ in range(400):
        threshold = false_alarm_threshold(head_of(rng.uniform(size=99)), 0.05)
        realised.append(threshold)  # of uniform scores, the share below t is t
    k, n = 5, 99
    deviation = math.sqrt(k * (n + 1 - k) / ((n + 1) ** 2 * (n + 2)) / 400)
    assert abs(np.mean(realised) - k / (n + 1)) < 4 * deviation
    low, high = false_alarm_interval(99, 0.05)
    outside = np.mean([not low <= r <= high for r in realised])
    assert abs(outside - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 400)


def test_the_interval_of_the_lowest_score_is_its_closed_form():
    # k = 1: the realised rate follows Beta(1, n), whose distribution function is 1 - (1 - x)^n.
    low, high = false_alarm_interval(19, 0.05, confidence=0.9)
    assert low == pytest.approx(1 - 0.95 ** (1 / 19))
    assert high == pytest.approx(1 - 0.05 ** (1 / 19))


def test_clopper_pearson_of_none_and_all_is_its_closed_form():
    assert clopper_pearson(0, 10) == (0.0, pytest.approx(1 - 0.025 ** (1 / 10)))
    assert clopper_pearson(10, 10) == (pytest.approx(0.025 ** (1 / 10)), 1.0)
    with pytest.raises(ValueError, match="11 of 10"):
        clopper_pearson(11, 10)


def test_held_out_groups_are_never_split_and_fill_the_share():
    groups = np.repeat(np.arange(40), np.arange(40) % 5 + 1)
    held = hold_out(len(groups), 0.3, np.random.default_rng(0), groups)
    assert not set(groups[held]) & set(groups[~held])
    assert 0.25 < held.mean() <= 0.3
    assert (held == hold_out(len(groups), 0.3, np.random.default_rng(0), groups)).all()


def test_a_group_too_large_for_the_share_leaves_the_smallest_held_out():
    groups = np.array(["a"] * 6 + ["b"] * 4)
    assert set(groups[hold_out(10, 0.1, np.random.default_rng(0), groups)]) == {"b"}
    with pytest.raises(DataError, match="fewer than two groups"):
        hold_out(3, 0.5, np.random.default_rng(0), ["a"] * 3)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (CalibratedHead((), 0), "0 calibration scores"),
        (CalibratedHead((1.0, 2.0), 1), "2 calibration scores for 1"),
        (CalibratedHead((2.0, 1.0), 2), "ascending"),
        (CalibratedHead((1.0, math.nan), 2), "finite"),
    ],
)
def test_a_calibration_that_cannot_be_used_is_refused(head, message):
    with pytest.raises(DetectorError, match=f"^x: .*{message}"):
        check_calibration(head, where="x")


@pytest.mark.parametrize("scores", [[], [math.inf], [math.nan, 1.0]])
def test_only_finite_scores_can_be_stored(scores):
    with pytest.raises(ValueError, match="finite"):
        compress_calibration(scores)


@pytest.mark.parametrize("n", [1, 19, 110, 2000, 50000])
def test_the_intervals_are_those_of_scipy(n):
    beta = pytest.importorskip("scipy.stats").beta
    for count in {0, 1, n // 20, n // 2, n}:
        low, high = clopper_pearson(count, n)
        assert low == pytest.approx(beta.ppf(0.025, count, n - count + 1) if count else 0.0, rel=1e-7)
        assert high == pytest.approx(beta.ppf(0.975, count + 1, n - count) if count < n else 1.0, rel=1e-7)
