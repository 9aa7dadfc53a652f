"""The picture of the scores: every face is counted, the flagged beyond the threshold."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bladescan.evaluation import score_plot
from bladescan.evaluation.report import (
    Scored,
)
from tests.evaluation.drawn import (
    INF,
    NAN,
    binary,
    one_class,
    report,
    scored,
    texts,
)


def histogram(panel):
    """Counts of the faces passed and flagged, and the edges of the bins."""
    passed, flagged = [patch.get_data() for patch in panel.patches]
    assert_array_equal(passed.edges, flagged.edges)
    return passed.values, flagged.values, passed.edges


@pytest.mark.parametrize("head", ["one-class", "binary"])
def test_every_face_is_in_the_histogram_and_the_flagged_are_those_beyond_the_threshold(head):
    given = Scored({head: scored(3).scores[head]})
    panels = score_plot.scores_figure(given, report()).axes
    for panel, scores in zip(panels, given.scores[head].values(), strict=True):
        is_flagged = scores < -1.5 if head == "one-class" else scores > 0.75
        passed, flagged, _ = histogram(panel)
        assert passed.sum() == (~is_flagged).sum()
        assert flagged.sum() == is_flagged.sum()
        assert f"{is_flagged.mean():.0%} of {len(scores)} flagged" in [t.get_text() for t in panel.texts]


def test_no_bin_holds_both_sides_of_the_threshold_where_the_line_stands():
    for panel in score_plot.scores_figure(scored(), report()).axes:
        passed, flagged, edges = histogram(panel)
        assert not (passed * flagged).any()
        (threshold,) = panel.get_lines()
        assert min(abs(edges - threshold.get_xdata()[0])) == 0


def test_the_binary_scores_stand_at_their_log_odds():
    panel = score_plot.scores_figure(binary([0.1, 0.2, 0.5], g=[0.9]), report()).axes[0]
    _, _, edges = histogram(panel)
    (threshold,) = panel.get_lines()
    assert_allclose(threshold.get_xdata(), math.log(0.75 / 0.25))
    assert edges[0] < math.log(0.1 / 0.9)
    assert edges[-1] > math.log(0.9 / 0.1)


def test_scores_far_out_are_counted_at_the_edge_and_leave_the_others_their_room():
    photographs = np.linspace(-1, 1, 200)
    far = one_class(photographs, g=[*np.linspace(-3, 0, 96), -1e9, -1e9, -1e6, INF])
    panel = score_plot.scores_figure(far, report()).axes[1]
    passed, flagged, edges = histogram(panel)
    assert -10 < edges[0] < edges[-1] < 10
    assert flagged[0] == 3
    assert passed[-1] == 1
    assert {"◂ 3 lower", "1 higher ▸"} <= {text.get_text() for text in panel.texts}


def test_saturated_probabilities_are_counted_at_the_edges():
    panel = score_plot.scores_figure(binary([0.0, 0.3, 0.4], g=[1.0, 1.0, 0.5]), report()).axes[1]
    passed, flagged, _ = histogram(panel)
    assert (passed.sum(), flagged[-1]) == (1, 2)
    assert "2 higher ▸" in texts(panel.figure)


def test_the_ticks_of_the_binary_head_are_probabilities():
    panel = score_plot.scores_figure(binary([1e-7, 1e-3, 0.5], g=[0.5, 0.9999999]), report()).axes[1]
    for tick, label in zip(panel.get_xticks(), panel.get_xticklabels(), strict=True):
        head, _, tail = label.get_text().partition("1 - ")
        p = 1 - float(tail) if tail else float(head)
        assert_allclose(1 / (1 + math.exp(-tick)), p, rtol=1e-9)
    assert len(panel.get_xticks()) >= 4


@pytest.mark.parametrize("threshold", [NAN, INF, -INF])
def test_a_threshold_that_is_no_number_is_not_drawn(threshold):
    panels = score_plot.scores_figure(one_class([1, 2, 3], g=[0, 1]), report(one_class=threshold)).axes
    assert not any(panel.get_lines() for panel in panels)
    assert panels[-1].get_xlabel() == "suspicious ← log-likelihood"
