"""Rates of a scan from the faces that were looked at: against counting all that could be."""

from __future__ import annotations

from itertools import product
from math import comb

import pytest

from bladescan.detectors.calibration import clopper_pearson
from bladescan.feedback.rates import measured_share, scan_rates, total_interval
from bladescan.feedback.strata import ScoreStratum

FLAGGED, UNSURE, NOT_FLAGGED = range(3)


def chance(found: int, n: int, k: int, total: int) -> float:
    """The chance to find so many of k among n drawn of a total."""
    return comb(k, found) * comb(total - k, n - found) / comb(total, n)


@pytest.mark.parametrize(("found", "n", "total"), [(0, 5, 40), (2, 7, 30), (6, 6, 25), (3, 3, 3), (0, 0, 9)])
def test_the_interval_of_a_total_holds_what_no_tail_of_the_draw_contradicts(found, n, total):
    kept = [
        k
        for k in range(found, total - n + found + 1)
        if sum(chance(x, n, k, total) for x in range(found, n + 1)) > 0.025
        and sum(chance(x, n, k, total) for x in range(found + 1)) > 0.025
    ]
    assert total_interval(found, n, total) == (min(kept), max(kept))


@pytest.mark.parametrize("total", [12, 31])
def test_the_interval_of_a_total_holds_the_truth_in_95_of_100_draws_whatever_it_is(total):
    n = 8
    intervals = [total_interval(found, n, total) for found in range(n + 1)]
    for k in range(total + 1):
        holds = sum(chance(x, n, k, total) for x, (low, high) in enumerate(intervals) if low <= k <= high)
        assert holds >= 0.95


def test_who_looked_at_all_knows_all_and_who_looked_at_none_knows_nothing():
    assert total_interval(4, 9, 9) == (4, 4)
    assert total_interval(0, 0, 1000) == (0, 1000)
    low, high = total_interval(0, 100, 1_000_000)
    assert low == 0 and high / 1_000_000 == pytest.approx(clopper_pearson(0, 100)[1], abs=1e-3)


def stratum(side: int, n: int, photographic: int, generated: int) -> ScoreStratum:
    return ScoreStratum(side, 0.0, 1.0, n, photographic, generated, 0)


def test_a_scan_that_was_looked_at_completely_has_rates_without_an_interval():
    rates = scan_rates(
        [stratum(FLAGGED, 10, 4, 6), stratum(UNSURE, 3, 2, 1), stratum(NOT_FLAGGED, 30, 27, 3)]
    )
    for rate, expected in zip(rates, (4 / 33, 3 / 10, 4 / 10, 10 / 43), strict=True):
        assert rate == pytest.approx((expected,) * 3)


def test_the_ends_of_a_rate_are_the_extremes_of_all_numbers_within_the_intervals():
    strata = [stratum(FLAGGED, 12, 2, 3), stratum(FLAGGED, 8, 4, 1), stratum(NOT_FLAGGED, 20, 9, 1)]
    spans = [total_interval(s.n_ai_generated, s.n_sure, s.n, 1 - 0.05 / 3) for s in strata]
    found = []
    for a, b, c in product(*(range(low, high + 1) for low, high in spans)):
        photos = 20 - a - b + 20 - c
        found.append(((20 - a - b) / photos, c / (a + b + c), (20 - a - b) / 20, (a + b + c) / 40))
    rates = scan_rates(strata)
    for rate, values in zip(rates, zip(*found, strict=True), strict=True):
        assert (rate.low, rate.high) == pytest.approx((min(values), max(values)))
    flagged, missed = 12 * 3 / 5 + 8 * 1 / 5, 20 / 10
    assert rates.missed.estimate == pytest.approx(missed / (flagged + missed))


def test_what_nobody_looked_at_leaves_no_estimate_and_bounds_that_hold_whatever_it_is():
    rates = scan_rates([stratum(FLAGGED, 10, 5, 5), stratum(NOT_FLAGGED, 90, 0, 0)])
    assert rates.missed == (None, 0.0, 90 / 95)
    assert rates.false_alarm == (None, 5 / 95, 1.0)
    assert rates.false_among_flagged[1:] == (0.5, 0.5)


def test_a_share_of_nothing_is_unknown():
    assert measured_share(0, 0).share is None and measured_share(0, 0)[2:] == (0.0, 1.0)
    assert measured_share(1, 4)[2:] == clopper_pearson(1, 4)
