"""The pictures of an evaluation: what is drawn is what was measured, and odd scores still give a picture."""

import math
import sys

import matplotlib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from bladescan.base import figures
from bladescan.base.errors import MissingDependencyError, OutputError
from bladescan.evaluation import embedding_plot, plots, robustness_plot
from bladescan.evaluation.report import (
    PHOTOGRAPHS,
    HeadReport,
    Interval,
    Metrics,
    Report,
    Scored,
    SetCounts,
    VariantReport,
)

NAN, INF = math.nan, math.inf
VARIANTS = ["none", "jpeg-95", "jpeg-75", "blur"]


def scored(n_generators=2, n=60):
    """The later the generator, the further from the photographs."""
    rng = np.random.default_rng(0)
    likely, p = {PHOTOGRAPHS: rng.normal(0, 1, n)}, {PHOTOGRAPHS: rng.beta(1, 4, n)}
    embeddings = {PHOTOGRAPHS: rng.normal(size=(n, 8)).astype(np.float32)}
    for i in range(n_generators):
        likely[f"g{i}"] = rng.normal(-0.5 - i, 1, n // 2)
        p[f"g{i}"] = rng.beta(2 + i, 2, n // 2)
        embeddings[f"g{i}"] = rng.normal(i, 1, size=(n // 2, 8)).astype(np.float32)
    return Scored({"one-class": likely, "binary": p}, embeddings)


def one_class(photographs, **generators):
    sets = {PHOTOGRAPHS: photographs, **generators}
    return Scored({"one-class": {name: np.array(scores, np.float64) for name, scores in sets.items()}})


def binary(photographs, **generators):
    return Scored({"binary": one_class(photographs, **generators).scores["one-class"]})


def metrics(value, low=None, high=None):
    interval = Interval(value, value - 0.02 if low is None else low, value + 0.01 if high is None else high)
    return Metrics(9, 9, *[interval] * 9)


def report(variants=None, *, one_class=-1.5, binary=0.75):
    """A report of both heads, each with the variants given: by name, metrics by generator."""
    found = {
        name: VariantReport(generators, metrics(np.mean([m.auc.value for m in generators.values()])))
        for name, generators in (variants or {}).items()
    }
    heads = {"one-class": HeadReport(one_class, found), "binary": HeadReport(binary, found)}
    counts = SetCounts(9, 9, 9, {})
    return Report("0", "d", "00", "onnx", "cpu", "auto", 0.05, None, counts, {}, heads, {}, [])


def falling(n_generators=3):
    """Every generator its own course of AUC."""
    return {
        variant: {f"g{k}": metrics(0.9 - 0.03 * k - 0.02 * i) for k in range(n_generators)}
        for i, variant in enumerate(VARIANTS)
    }


@pytest.fixture
def coarse(monkeypatch):
    """Small pictures, for tests that write many and count no pixels."""
    monkeypatch.setattr(figures, "DPI", 50)


def texts(figure):
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def line(axes, label):
    """Places of the one line of some axes with a label."""
    (found,) = [line for line in axes.get_lines() if line.get_label() == label]
    return np.array(found.get_xydata())


def key(axes):
    """Areas and names beside a ROC curve, from the top."""
    rows = [text for text in axes.texts if text.get_text() not in ("AUC", "chance")]
    return [t.get_text().split("  ") for t in sorted(rows, key=lambda text: -text.get_position()[1])]


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


def clouds(panel):
    """Places of the points of a panel, by set."""
    return {cloud.get_label(): np.array(cloud.get_offsets()) for cloud in panel.collections}


def test_every_generator_has_a_panel_in_which_the_photographs_stand_at_the_same_places():
    panels = embedding_plot.tsne_figure(scored(3, n=24)).axes
    found = [clouds(panel) for panel in panels]
    assert [list(cloud) for cloud in found] == [[PHOTOGRAPHS, f"g{k}"] for k in range(3)]
    for cloud in found:
        assert cloud[PHOTOGRAPHS].shape == (24, 2)
        assert_array_equal(cloud[PHOTOGRAPHS], found[0][PHOTOGRAPHS])


def test_the_points_of_a_set_far_from_another_stand_apart():
    rng = np.random.default_rng(0)
    far = {PHOTOGRAPHS: rng.normal(0, 1, (40, 5)), "g": rng.normal(50, 1, (40, 5))}
    (panel,) = embedding_plot.tsne_figure(Scored({}, far)).axes
    places = clouds(panel)
    centres = {name: cloud.mean(axis=0) for name, cloud in places.items()}
    for name, other in ((PHOTOGRAPHS, "g"), ("g", PHOTOGRAPHS)):
        own = np.linalg.norm(places[name] - centres[name], axis=1)
        assert (own < np.linalg.norm(places[name] - centres[other], axis=1)).all()


def test_the_same_seed_gives_the_same_picture_and_another_draws_other_faces(coarse, monkeypatch, tmp_path):
    monkeypatch.setattr(embedding_plot, "MAX_POINTS", 30)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        embedding_plot.plot_tsne(scored(), tmp_path / name, seed=seed)
    files = [(tmp_path / name).read_bytes() for name in "abc"]
    assert files[0] == files[1] != files[2]


def test_of_many_faces_a_part_is_drawn_and_the_title_says_so(monkeypatch):
    monkeypatch.setattr(embedding_plot, "MAX_POINTS", 40)
    figure = embedding_plot.tsne_figure(scored(2, n=60))
    drawn = [{name: len(cloud) for name, cloud in clouds(panel).items()} for panel in figure.axes]
    assert drawn == [{PHOTOGRAPHS: 20, "g0": 10}, {PHOTOGRAPHS: 20, "g1": 10}]
    assert "▲ g0 (10 of 30)" in texts(figure)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([9000, 9000, 9000], [1000, 500, 500]),
        ([9000, 100, 9000], [1266, 100, 633]),
        ([400, 9000, 9000], [400, 800, 800]),
        ([50, 60, 70], [50, 60, 70]),
        ([9000], [2000]),
    ],
)
def test_room_that_small_sets_leave_goes_to_the_others(sizes, expected):
    assert embedding_plot._shares(sizes, True) == expected


def test_embeddings_that_are_not_finite_are_left_out():
    given = scored(1, n=24)
    given.embeddings["g0"][3, 2] = NAN
    figure = embedding_plot.tsne_figure(given)
    assert len(clouds(figure.axes[0])["g0"]) == 11
    assert "▲ g0 (11 of 12)" in texts(figure)


def test_three_faces_are_too_few_for_a_tsne_and_the_picture_says_so():
    given = {PHOTOGRAPHS: np.ones((2, 4), np.float32), "g": np.zeros((1, 4), np.float32)}
    assert texts(embedding_plot.tsne_figure(Scored({}, given))) == [
        "3 faces with embeddings are too few for a t-SNE: it takes 10"
    ]


@pytest.mark.parametrize("n", [10, 11])
def test_the_fewest_faces_do(n):
    (panel,) = embedding_plot.tsne_figure(Scored({}, {"g": np.eye(n, 4, dtype=np.float32)})).axes
    assert clouds(panel)["g"].shape == (n, 2)


def test_embeddings_that_are_all_equal_are_said_to_be():
    given = {PHOTOGRAPHS: np.ones((20, 4), np.float32)}
    assert texts(embedding_plot.tsne_figure(Scored({}, given))) == ["no t-SNE: all 20 embeddings are equal"]


def courses(axes):
    """AUC and the ends of its interval by variant, for every line of some axes."""
    found = {}
    for container in axes.containers:
        values, _, (bars,) = container
        ends = np.array(bars.get_segments())[:, :, 1]
        found[container.get_label()] = (values.get_ydata(), ends[:, 0], ends[:, 1])
    return found


def test_the_robustness_lines_hold_the_numbers_of_the_report():
    variants = falling()
    for axes in robustness_plot.robustness_figure(report(variants)).axes:
        found = courses(axes)
        assert list(found) == ["g0", "g1", "g2", "mean"]
        for name in ("g0", "g1", "g2"):
            given = np.array([variants[variant][name].auc for variant in VARIANTS])
            assert_allclose(np.transpose(found[name]), given)
        means = [np.mean([m.auc.value for m in variants[v].values()]) for v in VARIANTS]
        assert_allclose(found["mean"][0], means)
        assert [label.get_text() for label in axes.get_xticklabels()] == VARIANTS


def test_one_generator_has_no_mean():
    for axes in robustness_plot.robustness_figure(report(falling(1))).axes:
        assert list(courses(axes)) == ["g0"]


def test_the_mean_is_the_thickest_line():
    (axes, _) = robustness_plot.robustness_figure(report(falling())).axes
    widths = {container.get_label(): container[0].get_linewidth() for container in axes.containers}
    assert max(widths, key=widths.__getitem__) == "mean"
    assert sorted(widths.values())[-2] < widths["mean"] / 2


def ends(axes):
    return [text for text in axes.texts if text.get_text() != "chance"]


def test_every_robustness_line_ends_in_its_name_and_last_value_and_no_two_of_ten_overlap():
    equal = {variant: {f"g{k}": metrics(0.9 + 0.002 * k) for k in range(10)} for variant in VARIANTS}
    figure = robustness_plot.robustness_figure(report(equal))
    figure.draw_without_rendering()
    for axes in figure.axes:
        # An annotation's own extent includes its leader.
        placed = [(matplotlib.text.Text.get_window_extent(text), text.get_text()) for text in ends(axes)]
        placed.sort(key=lambda item: item[0].y0)
        assert all(a.y1 <= b.y0 for (a, _), (b, _) in zip(placed, placed[1:], strict=False))
        said = [f"g{k}  {0.9 + 0.002 * k:.3f}" for k in range(10)]
        assert sorted(text for _, text in placed) == [*said, "mean  0.909"]


def test_a_variant_without_a_number_leaves_a_gap_and_the_label_has_the_last_known():
    variants = falling(1)
    variants["jpeg-95"] = {"g0": metrics(NAN)}
    variants["blur"] = {"g0": metrics(0.8, NAN, NAN), "late": metrics(0.3, 0.4, 0.2)}
    del variants["jpeg-75"]["g0"]
    variants["jpeg-75"]["late"] = metrics(NAN)
    (axes, _) = robustness_plot.robustness_figure(report(variants)).axes
    assert axes.containers[0].get_label() == "g0"
    assert np.isnan(axes.containers[0][0].get_ydata()).tolist() == [False, True, True, False]
    assert [text.get_text() for text in ends(axes)] == ["late  0.300", "mean  0.550", "g0  0.800"]
    assert axes.get_ylim()[0] < 0.3


def test_chance_is_in_the_picture_of_a_good_detector():
    variants = {"none": {"g": metrics(0.99)}}
    (axes, _) = robustness_plot.robustness_figure(report(variants)).axes
    assert axes.get_ylim()[0] < 0.5
    assert [0.5, 0.5] in [list(line.get_ydata()) for line in axes.get_lines()]


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


@pytest.mark.parametrize(
    "variants",
    [{}, {"none": {"g": metrics(NAN)}}, {"none": {"g": metrics(1.0, 1.0, 1.0)}}, {"none": {"g": metrics(0)}}],
    ids=["none", "only NaN", "perfect", "worst"],
)
def test_a_report_without_much_in_it_still_gives_a_picture(variants, tmp_path):
    robustness_plot.plot_robustness(report(variants), tmp_path / "x.png")
    assert min(size(tmp_path / "x.png")) > 100


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


def size(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


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
