"""Intervals of shares."""

from __future__ import annotations

from bladescan.evaluation.intervals import wilson_interval


def test_wilson_of_a_textbook_case_and_of_nothing():
    """Newcombe (1998), Table I: 81 of 263 gives 0.2553 to 0.3662."""
    value, low, high = wilson_interval(81, 263)
    assert value == 81 / 263
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson_interval(0, 10).low == 0 and wilson_interval(10, 10).high == 1
    assert wilson_interval(0, 0) is None
