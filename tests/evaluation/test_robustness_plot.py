"""The picture of robustness: its lines hold the numbers of the report."""

import matplotlib
import numpy as np
import pytest
from numpy.testing import assert_allclose

from bladescan.evaluation import robustness_plot
from bladescan.evaluation.degradations import VARIANT_WORDS
from tests.evaluation.drawn import NAN, VARIANTS, falling, metrics, report, size


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
        said = [label.get_text() for label in axes.get_xticklabels()]
        assert said == [VARIANT_WORDS[name] for name in VARIANTS]


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


@pytest.mark.parametrize(
    "variants",
    [{}, {"none": {"g": metrics(NAN)}}, {"none": {"g": metrics(1.0, 1.0, 1.0)}}, {"none": {"g": metrics(0)}}],
    ids=["none", "only NaN", "perfect", "worst"],
)
def test_a_report_without_much_in_it_still_gives_a_picture(variants, tmp_path):
    robustness_plot.plot_robustness(report(variants), tmp_path / "x.png")
    assert min(size(tmp_path / "x.png")) > 100
