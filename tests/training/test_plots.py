"""The pictures of a run: what is drawn is what was given, and a broken history still gives a picture."""

import math
import sys

import matplotlib
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from bladescan.base.errors import MissingDependencyError, OutputError
from bladescan.base.figures import as_png
from bladescan.tasks import pretext_tasks as tasks
from bladescan.training import plots

NAMES = list(tasks.TASKS)

WORDS = [name.replace("_", " ").replace("iso", "ISO") for name in NAMES]


def history(n=40):
    """Every task its own course, so that no line can be taken for another."""
    return [
        {
            "step": 10 * i,
            "losses": {name: (k + 1) / (i + 2) for k, name in enumerate(NAMES)},
            "weights": {name: 1 + 0.01 * i * (5 - k) for k, name in enumerate(NAMES)},
        }
        for i in range(n)
    ]


def course(lines, key, name):
    return [line[key][name] for line in lines]


def drawn(axes):
    """Step and value of every line of some axes, by label."""
    return {line.get_label(): np.array(line.get_xydata()) for line in axes.get_lines()}


def texts(figure):
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def size(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


def test_the_lines_of_the_weights_hold_the_numbers_of_the_history():
    lines = history()
    (axes,) = plots.weights_figure(lines).axes
    found = drawn(axes)
    assert list(found) == NAMES
    for name in NAMES:
        assert_allclose(found[name][:, 0], [line["step"] for line in lines])
        assert_allclose(found[name][:, 1], course(lines, "weights", name))


def test_every_line_of_the_weights_is_named_with_its_last_value():
    lines = history()
    (axes,) = plots.weights_figure(lines).axes
    labels = [text.get_text() for text in axes.texts]
    ends = [lines[-1]["weights"][name] for name in NAMES]
    assert sorted(labels) == sorted(f"{word}  {end:.3f}" for word, end in zip(WORDS, ends, strict=True))


def test_the_labels_of_the_weights_stand_in_the_order_of_the_last_values():
    lines = history()
    (axes,) = plots.weights_figure(lines).axes
    from_below = sorted(axes.texts, key=lambda text: text.xyann[1])
    values = [float(text.get_text().split()[-1]) for text in from_below]
    assert values == sorted(values)


def test_labels_of_equal_weights_do_not_overlap_and_name_the_first_task_on_top():
    constant = [{"step": i, "weights": dict.fromkeys(NAMES, 1.0)} for i in range(3)]
    figure = plots.weights_figure(constant)
    figure.draw_without_rendering()
    # An annotation's own extent includes its leader.
    extents = [matplotlib.text.Text.get_window_extent(text) for text in figure.axes[0].texts]
    boxes = sorted(extents, key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 for lower, upper in zip(boxes, boxes[1:], strict=False))
    assert max(figure.axes[0].texts, key=lambda text: text.xyann[1]).get_text().startswith(WORDS[0])


def test_no_two_tasks_are_drawn_alike():
    (axes,) = plots.weights_figure(history()).axes
    styles = {(line.get_color(), line._unscaled_dash_pattern) for line in axes.get_lines()}
    assert len(styles) == len(NAMES)


def test_every_task_has_a_panel_with_its_losses_and_their_running_mean():
    lines = history()
    figure = plots.losses_figure(lines)
    assert len(figure.axes) == len(NAMES)
    for axes, name, word in zip(figure.axes, NAMES, WORDS, strict=True):
        given = np.array(course(lines, "losses", name))
        found = drawn(axes)
        assert axes.get_title(loc="left").startswith(word + ":")
        assert_allclose(found[name][:, 1], given)
        assert_allclose(found[f"{name}, running mean"][1:, 1], (given[1:] + given[:-1]) / 2)


def test_a_history_of_one_task_has_one_panel():
    lines = [{"step": i, "losses": {"coarse_manipulation": 0.1}} for i in range(3)]
    (axes,) = plots.losses_figure(lines).axes
    assert axes.get_title(loc="left") == "coarse manipulation: 0.1"


def test_numbers_that_are_missing_leave_gaps():
    lines = history(6)
    lines[1]["weights"]["make"] = None
    lines[2]["weights"]["make"] = math.nan
    del lines[3]["weights"]["make"]
    (axes,) = plots.weights_figure(lines).axes
    assert np.isnan(drawn(axes)["make"][:, 1]).tolist() == [False, True, True, True, False, False]


def test_a_number_between_two_gaps_is_marked():
    lines = [{"step": i, "weights": {"make": w}} for i, w in enumerate([1.0, 1.1, None, 1.2, None, 1.3])]
    (axes,) = plots.weights_figure(lines).axes
    (line,) = axes.get_lines()
    assert line.get_marker() == "o"
    assert line.get_markevery() == [3, 5]


@pytest.mark.parametrize("plot", [plots.plot_losses, plots.plot_weights])
@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{}],
        [{"step": 1, "losses": {}, "weights": {}}],
        [{"step": 1, "losses": {"make": math.nan}, "weights": {"make": None}}] * 3,
        [{"step": 1, "losses": {"make": math.inf}, "weights": {"make": 1.0}}],
        [{"step": None, "losses": {"make": 0.0}, "weights": {"make": 1.0}}],
        [{"step": 7, "losses": {"unheard_of": 0.5}, "weights": {"unheard_of": 0.5}}],
    ],
    ids=["empty", "bare", "no tasks", "only NaN", "infinite", "no step", "foreign task"],
)
def test_a_history_without_much_in_it_still_gives_a_picture(plot, lines, tmp_path):
    plot(lines, tmp_path / "x.png")
    assert min(size(tmp_path / "x.png")) > 100


def test_an_empty_history_says_that_there_is_nothing_yet():
    assert "no losses yet" in texts(plots.losses_figure([]))
    assert "no task weights yet" in texts(plots.weights_figure([]))


def test_a_panel_without_numbers_says_so():
    lines = [{"step": 1, "losses": {"make": None, "aperture": 0.5}}]
    assert texts(plots.losses_figure(lines)).count("no numbers") == 1


def test_the_files_are_pictures_of_a_size_to_read(tmp_path):
    plots.plot_losses(history(), tmp_path / "losses.png")
    plots.plot_weights(history(), tmp_path / "weights.png")
    for name in ("losses", "weights"):
        width, height = size(tmp_path / f"{name}.png")
        assert 900 <= width <= 2400
        assert 250 <= height <= 2400
    assert sorted(path.name for path in tmp_path.iterdir()) == ["losses.png", "weights.png"]


def test_the_same_history_gives_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        plots.plot_weights(history(), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="no folder"):
        plots.plot_losses(history(2), tmp_path / "none" / "x.png")


def test_plotting_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    as_png(plots.losses_figure(history(3)))
    assert dict(matplotlib.rcParams) == before


def test_without_matplotlib_the_error_names_the_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'bladescan\[train\]'"):
        plots.plot_losses(history(2), tmp_path / "x.png")


def test_the_running_mean_is_that_of_a_naive_loop():
    rng = np.random.default_rng(0)
    numbers = np.where(rng.random(50) < 0.4, np.nan, rng.normal(size=50))
    for n in (1, 3, 7, 60):
        windows = [numbers[max(0, i - n + 1) : i + 1] for i in range(50)]
        naive = [np.mean(w[~np.isnan(w)]) if not np.isnan(w).all() else np.nan for w in windows]
        assert_allclose(plots.running_mean(numbers, n), naive, atol=1e-12)
