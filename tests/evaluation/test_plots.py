"""The pictures of an evaluation: what is drawn is what was measured, and odd scores still give a picture."""

import math
import sys

import matplotlib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bladescan.base.errors import MissingDependencyError, OutputError
from bladescan.evaluation import embedding_plot, plots, robustness_plot
from bladescan.evaluation.report import (
    PHOTOGRAPHS,
    Scored,
)
from tests.evaluation.drawn import (
    INF,
    NAN,
    binary,
    falling,
    key,
    line,
    metrics,
    one_class,
    report,
    scored,
    size,
    texts,
)


def test_the_roc_curve_goes_through_the_shares_at_every_threshold():
    given = scored(1).scores["binary"]
    _, axes = plots.roc_figure(scored(1)).axes
    points = {tuple(point) for point in line(axes, "g0").round(9)}
    for threshold in np.concatenate(list(given.values())):
        shares = [np.mean(given[name] >= threshold) for name in (PHOTOGRAPHS, "g0")]
        assert tuple(np.round(shares, 9)) in points


@pytest.mark.parametrize(("head", "sign"), [("one-class", -1), ("binary", 1)])
def test_the_area_beside_the_curve_is_the_chance_that_a_generated_face_looks_more_so(head, sign):
    given = scored(1).scores[head]
    axes = plots.roc_figure(scored(1)).axes[head == "binary"]
    above = [sign * a > sign * p for a in given["g0"] for p in given[PHOTOGRAPHS]]
    assert key(axes) == [[f"{np.mean(above):.3f}", "g0"]]


def test_the_dots_of_a_curve_say_what_is_found_at_1_and_5_percent_false_alarms():
    photographs = np.arange(100.0)
    (axes,) = plots.roc_figure(one_class(photographs, g=[-1, 0.5, 3.5, 4.5, 50])).axes
    # One photograph, 0, and then five of them, 0 to 4, may lie at or below the threshold.
    assert_allclose(line(axes, "g, marked"), [[0.01, 2 / 5], [0.05, 4 / 5]])


def test_the_key_of_the_roc_curves_has_the_largest_area_on_top_and_those_without_scores_last():
    given = one_class([5, 6], none=[NAN], half=[4, 7], best=[1, 2])
    (axes,) = plots.roc_figure(given).axes
    assert key(axes) == [["1.000", "best"], ["0.500", "half"], ["none", "none"]]


def test_a_curve_of_tied_scores_is_the_diagonal():
    (axes,) = plots.roc_figure(binary([0.5] * 4, g=[0.5] * 3)).axes
    found = line(axes, "g")
    assert len(found) > 50
    assert_allclose(found[:, 0], found[:, 1])


def test_infinite_scores_keep_their_rank_in_a_roc_curve_and_nan_is_left_out():
    (axes,) = plots.roc_figure(one_class([INF, 1, -INF, NAN], g=[-INF, NAN])).axes
    # Below two photographs, level with the third.
    assert key(axes) == [[f"{2.5 / 3:.3f}", "g"]]
    assert axes.get_title(loc="left") == "one-class head, 3 photographic faces"


def histogram(panel):
    """Counts of the faces passed and flagged, and the edges of the bins."""
    passed, flagged = [patch.get_data() for patch in panel.patches]
    assert_array_equal(passed.edges, flagged.edges)
    return passed.values, flagged.values, passed.edges


@pytest.mark.parametrize("head", ["one-class", "binary"])
def test_every_face_is_in_the_histogram_and_the_flagged_are_those_beyond_the_threshold(head):
    given = Scored({head: scored(3).scores[head]})
    panels = plots.scores_figure(given, report()).axes
    for panel, scores in zip(panels, given.scores[head].values(), strict=True):
        is_flagged = scores < -1.5 if head == "one-class" else scores > 0.75
        passed, flagged, _ = histogram(panel)
        assert passed.sum() == (~is_flagged).sum()
        assert flagged.sum() == is_flagged.sum()
        assert f"{is_flagged.mean():.0%} of {len(scores)} flagged" in [t.get_text() for t in panel.texts]


def test_no_bin_holds_both_sides_of_the_threshold_where_the_line_stands():
    for panel in plots.scores_figure(scored(), report()).axes:
        passed, flagged, edges = histogram(panel)
        assert not (passed * flagged).any()
        (threshold,) = panel.get_lines()
        assert min(abs(edges - threshold.get_xdata()[0])) == 0


def test_the_binary_scores_stand_at_their_log_odds():
    panel = plots.scores_figure(binary([0.1, 0.2, 0.5], g=[0.9]), report()).axes[0]
    _, _, edges = histogram(panel)
    (threshold,) = panel.get_lines()
    assert_allclose(threshold.get_xdata(), math.log(0.75 / 0.25))
    assert edges[0] < math.log(0.1 / 0.9)
    assert edges[-1] > math.log(0.9 / 0.1)


def test_scores_far_out_are_counted_at_the_edge_and_leave_the_others_their_room():
    photographs = np.linspace(-1, 1, 200)
    far = one_class(photographs, g=[*np.linspace(-3, 0, 96), -1e9, -1e9, -1e6, INF])
    panel = plots.scores_figure(far, report()).axes[1]
    passed, flagged, edges = histogram(panel)
    assert -10 < edges[0] < edges[-1] < 10
    assert flagged[0] == 3
    assert passed[-1] == 1
    assert {"◂ 3 lower", "1 higher ▸"} <= {text.get_text() for text in panel.texts}


def test_saturated_probabilities_are_counted_at_the_edges():
    panel = plots.scores_figure(binary([0.0, 0.3, 0.4], g=[1.0, 1.0, 0.5]), report()).axes[1]
    passed, flagged, _ = histogram(panel)
    assert (passed.sum(), flagged[-1]) == (1, 2)
    assert "2 higher ▸" in texts(panel.figure)


def test_the_ticks_of_the_binary_head_are_probabilities():
    panel = plots.scores_figure(binary([1e-7, 1e-3, 0.5], g=[0.5, 0.9999999]), report()).axes[1]
    for tick, label in zip(panel.get_xticks(), panel.get_xticklabels(), strict=True):
        head, _, tail = label.get_text().partition("1 - ")
        p = 1 - float(tail) if tail else float(head)
        assert_allclose(1 / (1 + math.exp(-tick)), p, rtol=1e-9)
    assert len(panel.get_xticks()) >= 4


@pytest.mark.parametrize("threshold", [NAN, INF, -INF])
def test_a_threshold_that_is_no_number_is_not_drawn(threshold):
    panels = plots.scores_figure(one_class([1, 2, 3], g=[0, 1]), report(one_class=threshold)).axes
    assert not any(panel.get_lines() for panel in panels)
    assert panels[-1].get_xlabel() == "log-likelihood"


def test_no_two_of_ten_generators_are_drawn_alike_and_each_is_the_same_in_all_pictures():
    given = scored(10, n=20)
    curves = plots.roc_figure(given).axes[0]
    styles = {
        line.get_label(): (line.get_color(), line._unscaled_dash_pattern)
        for line in curves.get_lines()
        if line.get_label() in given.embeddings
    }
    assert len(set(styles.values())) == 10
    robustness = robustness_plot.robustness_figure(report(falling(10))).axes[0]
    rows = plots.scores_figure(given, report()).axes
    for k in range(10):
        (container,) = [c for c in robustness.containers if c.get_label() == f"g{k}"]
        assert (container[0].get_color(), container[0]._unscaled_dash_pattern) == styles[f"g{k}"]
        assert rows[k + 1].texts[0].get_color() == styles[f"g{k}"][0]


@pytest.mark.parametrize(
    "given",
    [
        Scored({}),
        Scored({"one-class": {}, "binary": {}}),
        one_class([]),
        one_class([1, 2]),
        one_class([], g=[1, 2]),
        one_class([NAN], g=[NAN]),
        one_class([INF, -INF], g=[INF]),
        one_class([5], g=[5]),
        one_class([0], g=[0]),
        one_class([1e300, -1e300], g=[1e-300]),
        binary([0, 1], g=[0, 1, NAN]),
        Scored({"binary": {"g": np.array([0.5])}}, {"g": np.empty((0, 4), np.float32)}),
    ],
    ids=str,
)
def test_scores_without_much_in_them_still_give_pictures(given, coarse, tmp_path):
    plots.plot_roc(given, tmp_path / "roc.png")
    plots.plot_scores(given, report(), tmp_path / "scores.png")
    embedding_plot.plot_tsne(given, tmp_path / "tsne.png")
    for name in ("roc", "scores", "tsne"):
        assert min(size(tmp_path / f"{name}.png")) > 50


@pytest.mark.parametrize("name", ["_$x_{\n\udc80", "生成", "n" * 300, "mean"], ids=range(4))
def test_a_generator_may_have_any_name(name, coarse, tmp_path):
    rng = np.random.default_rng(0)
    given = one_class([1, 2, 3], **{name: [0, 1]})
    given.embeddings[name] = rng.normal(size=(12, 3)).astype(np.float32)
    plots.plot_roc(given, tmp_path / "roc.png")
    plots.plot_scores(given, report(), tmp_path / "scores.png")
    embedding_plot.plot_tsne(given, tmp_path / "tsne.png")
    found = {"none": {name: metrics(0.9), "other": metrics(0.8)}}
    robustness_plot.plot_robustness(report(found), tmp_path / "robustness.png")
    for picture in ("roc", "scores", "tsne", "robustness"):
        assert max(size(tmp_path / f"{picture}.png")) < 800


def test_the_files_are_pictures_of_a_size_to_read(tmp_path):
    plots.plot_roc(scored(1), tmp_path / "roc.png")
    robustness_plot.plot_robustness(report(falling(1)), tmp_path / "robustness.png")
    for name in ("roc", "robustness"):
        width, height = size(tmp_path / f"{name}.png")
        assert 900 <= width <= 2400
        assert 500 <= height <= 1200


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="no folder"):
        plots.plot_roc(scored(1), tmp_path / "none" / "x.png")


def test_plotting_leaves_matplotlib_as_it_was(coarse, tmp_path):
    before = dict(matplotlib.rcParams)
    plots.plot_scores(scored(1), report(), tmp_path / "x.png")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("module", "package", "draw"),
    [
        ("matplotlib.figure", "matplotlib", lambda: plots.scores_figure(scored(1), report())),
        ("sklearn.metrics", "scikit-learn", lambda: plots.roc_figure(scored(1))),
        ("sklearn.manifold", "scikit-learn", lambda: embedding_plot.tsne_figure(scored(1))),
    ],
)
def test_without_a_package_the_error_names_it_and_the_install(module, package, draw, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"{package}.*pip install 'bladescan\[train\]'"):
        draw()
