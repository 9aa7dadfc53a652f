"""The picture of the ROC curves: a curve goes through the shares at every threshold."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bladescan.evaluation import roc_plot
from bladescan.evaluation.report import (
    PHOTOGRAPHS,
)
from tests.evaluation.drawn import (
    INF,
    NAN,
    binary,
    key,
    line,
    one_class,
    scored,
)


def test_the_roc_curve_goes_through_the_shares_at_every_threshold():
    given = scored(1).scores["binary"]
    _, axes = roc_plot.roc_figure(scored(1)).axes
    points = {tuple(point) for point in line(axes, "g0").round(9)}
    for threshold in np.concatenate(list(given.values())):
        shares = [np.mean(given[name] >= threshold) for name in (PHOTOGRAPHS, "g0")]
        assert tuple(np.round(shares, 9)) in points


@pytest.mark.parametrize(("head", "sign"), [("one-class", -1), ("binary", 1)])
def test_the_area_beside_the_curve_is_the_chance_that_a_generated_face_looks_more_so(head, sign):
    given = scored(1).scores[head]
    axes = roc_plot.roc_figure(scored(1)).axes[head == "binary"]
    above = [sign * a > sign * p for a in given["g0"] for p in given[PHOTOGRAPHS]]
    assert key(axes) == [[f"{np.mean(above):.3f}", "g0"]]


def test_the_dots_of_a_curve_say_what_is_found_at_1_and_5_percent_false_alarms():
    photographs = np.arange(100.0)
    (axes,) = roc_plot.roc_figure(one_class(photographs, g=[-1, 0.5, 3.5, 4.5, 50])).axes
    # One photograph, 0, and then five of them, 0 to 4, may lie at or below the threshold.
    assert_allclose(line(axes, "g, marked"), [[0.01, 2 / 5], [0.05, 4 / 5]])


def test_the_key_of_the_roc_curves_has_the_largest_area_on_top_and_those_without_scores_last():
    given = one_class([5, 6], none=[NAN], half=[4, 7], best=[1, 2])
    (axes,) = roc_plot.roc_figure(given).axes
    assert key(axes) == [["1.000", "best"], ["0.500", "half"], ["none", "none"]]


def test_a_curve_of_tied_scores_is_the_diagonal():
    (axes,) = roc_plot.roc_figure(binary([0.5] * 4, g=[0.5] * 3)).axes
    found = line(axes, "g")
    assert len(found) > 50
    assert_allclose(found[:, 0], found[:, 1])


def test_infinite_scores_keep_their_rank_in_a_roc_curve_and_nan_is_left_out():
    (axes,) = roc_plot.roc_figure(one_class([INF, 1, -INF, NAN], g=[-INF, NAN])).axes
    # Below two photographs, level with the third.
    assert key(axes) == [[f"{2.5 / 3:.3f}", "g"]]
    assert axes.get_title(loc="left") == "one-class head, 3 photographic faces"
