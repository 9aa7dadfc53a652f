"""Pictures of a training run: the losses, the task weights (the paper's Fig. 4) and the tags found.

Every picture is a figure builder and a writer of that figure, so that what was drawn can be looked at without
reading pixels. Nothing here touches matplotlib's global state, a display, or the numbers it is given.

A history holds one mapping per line of ``history.jsonl``. A number that is absent, null or not finite leaves
a gap in its line; a history without numbers gives a picture that says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bladescan.base.figures import GREY, as_png, make_plain, new_figure, nothing_to_draw, say_in
from bladescan.base.output_files import write_file
from bladescan.tasks import pretext_tasks as tasks
from bladescan.tasks.pretext_tasks import TaskKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bladescan.photographs.tag_summary import TagSummary

History = Sequence[Mapping[str, Any]]
Course = NDArray[np.float64]

_PALE = "#B4B4B4"
_BAR = "#0072B2"
_SMOOTH_SHARE = 0.05
_MAX_BARS = 14
_TAG_COLUMNS = 3
_LABEL_GAP = 0.052

# Colours of Okabe and Ito, which people with any colour vision tell apart, dark enough for thin lines on
# white. The dash tells the kind of a task, so that no two tasks share both.
_STYLES: dict[str, tuple[str, Any]] = {
    "coarse_manipulation": ("#000000", "-"),
    "fine_manipulation": ("#D55E00", "-"),
    "iso_speed": ("#0072B2", (0, (5, 1.5))),
    "aperture": ("#009E73", (0, (5, 1.5))),
    "exposure_time": ("#B8558F", (0, (5, 1.5))),
    "focal_length": ("#B38600", (0, (5, 1.5))),
    "make": ("#0072B2", (0, (1.2, 1.2))),
    "metering_mode": ("#D55E00", (0, (1.2, 1.2))),
    "exposure_mode": ("#009E73", (0, (1.2, 1.2))),
    "white_balance_mode": ("#B8558F", (0, (1.2, 1.2))),
    "exposure_program": ("#000000", (0, (1.2, 1.2))),
}
_WIDTHS = {TaskKind.COARSE: 2.4, TaskKind.FINE: 2.4, TaskKind.ORDINAL: 1.7, TaskKind.CATEGORICAL: 1.9}


def plot_losses(history: History, path: Path) -> None:
    """Write `losses_figure` as a PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    write_file(path, as_png(losses_figure(history)))


def plot_weights(history: History, path: Path) -> None:
    """Write `weights_figure` as a PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    write_file(path, as_png(weights_figure(history)))


def plot_tags(rows: Sequence[TagSummary], path: Path) -> None:
    """Write `tags_figure` as a PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    write_file(path, as_png(tags_figure(rows)))


def losses_figure(history: History) -> Figure:
    """One panel per task: the loss of every step, thin, and its running mean, thick.

    Args:
        history: lines with ``step`` and ``losses`` by task.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    steps, courses = _courses(history, "losses")
    if not any(np.isfinite(course).any() for course in courses.values()):
        return nothing_to_draw("no losses yet")
    figure, panels = _grid([1.9] * len(courses), n_columns=4, width=2.9)
    for panel, (name, course) in zip(panels, courses.items(), strict=True):
        smooth = running_mean(course, max(1, round(_SMOOTH_SHARE * len(course))))
        panel.plot(steps, course, color=_PALE, linewidth=0.6, label=name)
        panel.plot(steps, smooth, color=_style(name)[0], linewidth=1.6, label=f"{name}, running mean")
        _mark_lone_points(panel)
        panel.set_title(_title(name, _last(smooth)), fontsize=9, loc="left")
        panel.set_ylim(bottom=0)
        if not np.isfinite(course).any():
            say_in(panel, "no numbers")
    figure.supxlabel("step", fontsize=9)
    figure.suptitle("Losses of the pretext tasks, with their running means", fontsize=11, x=0.01, ha="left")
    return figure


def weights_figure(history: History) -> Figure:
    """The course of the task weights, each line labelled at its end, as in the paper's Fig. 4.

    Args:
        history: lines with ``step`` and ``weights`` by task.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    steps, courses = _courses(history, "weights")
    if not any(np.isfinite(course).any() for course in courses.values()):
        return nothing_to_draw("no task weights yet")
    figure = new_figure(9.0, 5.2)
    axes = figure.add_subplot()
    for name, course in courses.items():
        colour, dash = _style(name)
        width = _WIDTHS[tasks.find_task(name).kind] if name in tasks.TASKS else 1.7
        axes.plot(steps, course, color=colour, linestyle=dash, linewidth=width, label=name)
    _mark_lone_points(axes)
    _label_ends(axes, courses)
    make_plain(axes)
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    axes.set_xlabel("step")
    axes.set_ylabel("task weight λ")
    axes.set_title("Weights of the pretext tasks", fontsize=11, loc="left")
    return figure


def tags_figure(rows: Sequence[TagSummary]) -> Figure:
    """One panel per tag: how many photographs have each class or range of values, and how many lack it.

    Args:
        rows: from `bladescan.photographs.indexing.summarise`.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    if not rows:
        return nothing_to_draw("no tags")
    n_bars = [len(_bars(row)) for row in rows]
    figure, panels = _grid([0.55 + 0.19 * n for n in n_bars], n_columns=_TAG_COLUMNS, width=3.8)
    for i, (panel, row) in enumerate(zip(panels, rows, strict=True)):
        first = i - i % _TAG_COLUMNS
        _draw_bars(panel, _bars(row), room=max(n_bars[first : first + _TAG_COLUMNS]))
        total = row.n_present + row.n_missing
        share = f"{row.n_present / total:.0%}" if total else "none"
        panel.set_title(f"{_words(row.task)}: {row.n_present} of {total} ({share})", fontsize=9, loc="left")
    figure.suptitle("Photographs by tag", fontsize=11, x=0.01, ha="left")
    return figure


def running_mean(course: Course, n: int) -> Course:
    """Mean of the last ``n`` numbers, or of as many as there are; NaN counts as no number.

    Args:
        course: ``[steps]``.
        n: window, at least 1.

    Returns:
        ``[steps]``, NaN where the window holds no number.
    """
    known = np.isfinite(course)
    total = np.cumsum(np.where(known, course, 0.0))
    count = np.cumsum(known)
    total[n:], count[n:] = total[n:] - total[:-n], count[n:] - count[:-n]
    mean: Course = np.divide(total, count, out=np.full(len(course), np.nan), where=count > 0)
    return mean


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move places apart, by least squares, until neighbours are at least ``gap`` from each other.

    Args:
        places: where the labels would be, ascending.
        gap: least distance.

    Returns:
        As many places, ascending.
    """
    # Less their rank times the gap they need only ascend: the pool-adjacent-violators algorithm.
    pools: list[tuple[float, int]] = []
    for rank, place in enumerate(places):
        pools.append((place - rank * gap, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (mean, n), (last, m) = pools[-2:]
            pools[-2:] = [((mean * n + last * m) / (n + m), n + m)]
    flat = [mean for mean, n in pools for _ in range(n)]
    return [mean + rank * gap for rank, mean in enumerate(flat)]


def _courses(history: History, key: str) -> tuple[Course, dict[str, Course]]:
    """Steps, and by task the numbers under ``key``; tasks in the paper's order, others after them.

    Lines without a step or without numbers are left out.
    """
    lines = [line for line in history if line.get(key) and math.isfinite(_number(line.get("step")))]
    given = dict.fromkeys(name for line in lines for name in line[key])
    names = [name for name in tasks.TASKS if name in given] + [n for n in given if n not in tasks.TASKS]
    steps = np.array([_number(line.get("step")) for line in lines])
    return steps, {name: np.array([_number(line[key].get(name)) for line in lines]) for name in names}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def _last(course: Course) -> float:
    known = course[np.isfinite(course)]
    return float(known[-1]) if len(known) else math.nan


def _words(name: str) -> str:
    return name.replace("_", " ").replace("iso ", "ISO ")


def _title(name: str, value: float) -> str:
    return _words(name) if math.isnan(value) else f"{_words(name)}: {value:.3g}"


def _style(name: str) -> tuple[str, Any]:
    return _STYLES.get(name, (GREY, "-."))


def _grid(heights: Sequence[float], *, n_columns: int, width: float) -> tuple[Figure, list[Axes]]:
    """A figure with one panel per height, row by row; sizes in inches, a row as high as its highest."""
    n_columns = min(n_columns, len(heights))
    rows = [max(heights[i : i + n_columns]) for i in range(0, len(heights), n_columns)]
    figure = new_figure(width * n_columns + 0.4, sum(rows) + 0.5)
    grid = figure.add_gridspec(len(rows), n_columns, height_ratios=rows)
    panels = [figure.add_subplot(grid[divmod(i, n_columns)]) for i in range(len(heights))]
    for panel in panels:
        make_plain(panel)
        panel.locator_params(axis="x", integer=True, min_n_ticks=1)
        panel.tick_params(labelsize=7)
    return figure, panels


def _mark_lone_points(axes: Axes) -> None:
    """Show a number between two gaps, which has no line to either side."""
    for line in axes.get_lines():
        known = np.isfinite(np.asarray(line.get_ydata(), float))
        beside = np.concatenate(([False], known[:-1])) | np.concatenate((known[1:], [False]))
        lone = np.flatnonzero(known & ~beside)
        line.set_marker("o" if len(lone) else "")
        line.set_markersize(1 + 1.5 * line.get_linewidth())
        line.set_markevery(lone.tolist())


def _label_ends(axes: Axes, courses: Mapping[str, Course]) -> None:
    """Name and last weight of every line to the right of the axes, joined to it by a leader."""
    axes.margins(x=0.005)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    ends = {name: (_last(course) - low) / (high - low) for name, course in courses.items()}
    # Backwards first: among equals, the label of the paper's first task comes out on top.
    names = sorted((name for name in reversed(ends) if math.isfinite(ends[name])), key=ends.__getitem__)
    heights = spread([ends[name] for name in names], _LABEL_GAP)
    for name, height in zip(names, heights, strict=True):
        _label_end(axes, name, _last(courses[name]), ends[name], height)


def _label_end(axes: Axes, name: str, value: float, end: float, height: float) -> None:
    """One label; its line ends at ``end`` and the label stands at ``height``, in shares of the axes."""
    colour, dash = _style(name)
    axes.annotate(
        f"{_words(name)}  {value:.3f}",
        xy=(1.0, end),
        xytext=(1.07, height),
        xycoords="axes fraction",
        textcoords="axes fraction",
        va="center",
        fontsize=9,
        color=colour,
        arrowprops={
            "arrowstyle": "-",
            "color": colour,
            "linestyle": dash,
            "linewidth": 1.0,
            "relpos": (0.0, 0.5),
            "shrinkA": 3,
            "shrinkB": 0,
        },
    )


def _bars(row: TagSummary) -> list[tuple[str, int]]:
    """Label and count of every bar, top to bottom; what does not fit is summed up in one."""
    shown = [(str(label), int(count)) for label, count in row.counts.items()]
    if len(shown) > _MAX_BARS:
        rest = shown[_MAX_BARS - 1 :]
        shown[_MAX_BARS - 1 :] = [(f"{len(rest)} more", sum(count for _, count in rest))]
    return [*shown, ("missing", row.n_missing)]


def _draw_bars(panel: Axes, bars: Sequence[tuple[str, int]], *, room: int) -> None:
    """Bars from the top, as thick as if there were ``room`` of them."""
    labels, counts = [label for label, _ in bars], [count for _, count in bars]
    colours = [_BAR] * (len(bars) - 1) + [GREY]
    drawn = panel.barh(range(len(bars)), counts, color=colours, height=0.75)
    panel.bar_label(drawn, fmt="{:,.0f}", fontsize=7, padding=2)
    panel.set_yticks(range(len(bars)), labels)
    panel.set_ylim(room - 0.4, -0.6)
    panel.grid(visible=False)
    panel.set_xticks([])
    panel.set_xlim(0, 1.2 * max([*counts, 1]))
    panel.spines["bottom"].set_visible(False)
    panel.spines["left"].set_bounds(-0.5, len(bars) - 0.5)
