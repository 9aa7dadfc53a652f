"""Pictures of a training run: the losses and the task weights, as in the paper's Fig. 4.

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

from bladescan.base.figures import (
    GREY,
    as_png,
    make_plain,
    new_figure,
    nothing_to_draw,
    panel_grid,
    say_in,
    spread_labels,
)
from bladescan.base.output_files import write_file
from bladescan.tasks import pretext_tasks as tasks
from bladescan.tasks.pretext_tasks import TaskKind, task_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


History = Sequence[Mapping[str, Any]]

Course = NDArray[np.float64]

_PALE = "#B4B4B4"

_SMOOTH_SHARE = 0.05

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


def losses_figure(history: History) -> Figure:
    """Draw one panel per task: the loss of every step, thin, and its running mean, thick.

    Args:
        history: lines with ``step`` and ``losses`` by task.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    steps, courses = _courses(history, "losses")
    if not any(np.isfinite(course).any() for course in courses.values()):
        return nothing_to_draw("no losses yet")
    figure, panels = panel_grid([1.9] * len(courses), n_columns=4, width=2.9)
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
    """Plot the course of the task weights, each line labelled at its end, as in the paper's Fig. 4.

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


def running_mean(course: Course, n: int) -> Course:
    """Average the last ``n`` numbers, or as many as there are; NaN counts as no number.

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


def _courses(history: History, key: str) -> tuple[Course, dict[str, Course]]:
    """Collect steps, and by task the numbers under ``key``; tasks in the paper's order, others after them.

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


def _title(name: str, value: float) -> str:
    return task_title(name) if math.isnan(value) else f"{task_title(name)}: {value:.3g}"


def _style(name: str) -> tuple[str, Any]:
    return _STYLES.get(name, (GREY, "-."))


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
    """Write name and last weight of every line to the right of the axes, joined to it by a leader."""
    axes.margins(x=0.005)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    ends = {name: (_last(course) - low) / (high - low) for name, course in courses.items()}
    # Backwards first: among equals, the label of the paper's first task comes out on top.
    names = sorted((name for name in reversed(ends) if math.isfinite(ends[name])), key=ends.__getitem__)
    heights = spread_labels([ends[name] for name in names], _LABEL_GAP)
    for name, height in zip(names, heights, strict=True):
        _label_end(axes, name, _last(courses[name]), ends[name], height)


def _label_end(axes: Axes, name: str, value: float, end: float, height: float) -> None:
    """Write one label; its line ends at ``end``, the label stands at ``height``, in shares of the axes."""
    colour, dash = _style(name)
    axes.annotate(
        f"{task_title(name)}  {value:.3f}",
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
