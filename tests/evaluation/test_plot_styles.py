"""The pictures of an evaluation: what is drawn is what was measured, and odd scores still give a picture."""

import sys

import matplotlib
import numpy as np
import pytest

from bladescan.base.errors import MissingDependencyError, OutputError
from bladescan.evaluation import embedding_plot, robustness_plot, roc_plot, score_plot
from bladescan.evaluation.report import (
    Scored,
)
from tests.evaluation.drawn import (
    INF,
    NAN,
    binary,
    falling,
    metrics,
    one_class,
    report,
    scored,
    size,
)


def test_no_two_of_ten_generators_are_drawn_alike_and_each_is_the_same_in_all_pictures():
    given = scored(10, n=20)
    curves = roc_plot.roc_figure(given).axes[0]
    styles = {
        line.get_label(): (line.get_color(), line._unscaled_dash_pattern)
        for line in curves.get_lines()
        if line.get_label() in given.embeddings
    }
    assert len(set(styles.values())) == 10
    robustness = robustness_plot.robustness_figure(report(falling(10))).axes[0]
    rows = score_plot.scores_figure(given, report()).axes
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
    roc_plot.plot_roc(given, tmp_path / "roc.png")
    score_plot.plot_scores(given, report(), tmp_path / "scores.png")
    embedding_plot.plot_tsne(given, tmp_path / "tsne.png")
    for name in ("roc", "scores", "tsne"):
        assert min(size(tmp_path / f"{name}.png")) > 50


@pytest.mark.parametrize("name", ["_$x_{\n\udc80", "生成", "n" * 300, "mean"], ids=range(4))
def test_a_generator_may_have_any_name(name, coarse, tmp_path):
    rng = np.random.default_rng(0)
    given = one_class([1, 2, 3], **{name: [0, 1]})
    given.embeddings[name] = rng.normal(size=(12, 3)).astype(np.float32)
    roc_plot.plot_roc(given, tmp_path / "roc.png")
    score_plot.plot_scores(given, report(), tmp_path / "scores.png")
    embedding_plot.plot_tsne(given, tmp_path / "tsne.png")
    found = {"none": {name: metrics(0.9), "other": metrics(0.8)}}
    robustness_plot.plot_robustness(report(found), tmp_path / "robustness.png")
    for picture in ("roc", "scores", "tsne", "robustness"):
        assert max(size(tmp_path / f"{picture}.png")) < 800


def test_the_files_are_pictures_of_a_size_to_read(tmp_path):
    roc_plot.plot_roc(scored(1), tmp_path / "roc.png")
    robustness_plot.plot_robustness(report(falling(1)), tmp_path / "robustness.png")
    for name in ("roc", "robustness"):
        width, height = size(tmp_path / f"{name}.png")
        assert 900 <= width <= 2400
        assert 500 <= height <= 1200


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="no folder"):
        roc_plot.plot_roc(scored(1), tmp_path / "none" / "x.png")


def test_plotting_leaves_matplotlib_as_it_was(coarse, tmp_path):
    before = dict(matplotlib.rcParams)
    score_plot.plot_scores(scored(1), report(), tmp_path / "x.png")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("module", "package", "draw"),
    [
        ("matplotlib.figure", "matplotlib", lambda: score_plot.scores_figure(scored(1), report())),
        ("sklearn.metrics", "scikit-learn", lambda: roc_plot.roc_figure(scored(1))),
        ("sklearn.manifold", "scikit-learn", lambda: embedding_plot.tsne_figure(scored(1))),
    ],
)
def test_without_a_package_the_error_names_it_and_the_install(module, package, draw, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"{package}.*pip install 'bladescan\[train\]'"):
        draw()
