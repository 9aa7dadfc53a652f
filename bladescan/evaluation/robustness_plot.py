"""The picture of robustness: AUC on degraded crops, per head, a line per generator and their mean.

It measures nothing: the numbers are those of the report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bladescan.base.figures import GREY, as_png, make_plain, new_figure, nothing_to_draw, spread_labels
from bladescan.base.output_files import write_file
from bladescan.detectors.manifest import HeadName
from bladescan.evaluation.degradations import VARIANT_WORDS
from bladescan.evaluation.plot_styles import Numbers, generator_styles, head_title, label_chance, short_name
from bladescan.evaluation.report import Interval, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MEAN = "#000000"
_DODGE = 0.4
_LABEL_GAP = 0.052
_NOTHING = Interval(math.nan, math.nan, math.nan)


def plot_robustness(report: Report, path: Path) -> None:
    """Write `robustness_figure` as a PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    write_file(path, as_png(robustness_figure(report)))


def robustness_figure(report: Report) -> Figure:
    """Draw the AUC by variant of the crops: a panel per head, a line per generator, the mean thick.

    Args:
        report: its variants are drawn in the order that they have there.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    courses = {head: _courses(report, head) for head in report.heads}
    drawn = {head: lines for head, lines in courses.items() if lines}
    if not drawn:
        return nothing_to_draw("no variants")
    n_variants = max(len(report.heads[head].variants) for head in drawn)
    figure = new_figure(max(4.8, 3.2 + 0.55 * n_variants) * len(drawn), 4.8)
    ends = np.concatenate([[*line.value, *line.low] for lines in drawn.values() for line in lines])
    for i, (head, lines) in enumerate(drawn.items()):
        axes = figure.add_subplot(1, len(drawn), i + 1)
        axes.set_ylim(max(-0.01, np.nanmin(ends, initial=0.5) - 0.03), 1.01)
        _draw_courses(axes, lines, list(report.heads[head].variants))
        axes.set_title(head_title(head), fontsize=10, loc="left")
    figure.suptitle("AUC on degraded crops, with 95% intervals", fontsize=11, x=0.01, ha="left")
    return figure


class _Course(NamedTuple):
    """AUC by variant with its interval, NaN where it is not known, and how it is drawn."""

    name: str
    value: Numbers
    low: Numbers
    high: Numbers
    colour: str
    dash: Any
    is_mean: bool


def _courses(report: Report, head: HeadName) -> list[_Course]:
    """List the lines of every generator and, of two or more, their mean, drawn last and so on top."""
    variants = list(report.heads[head].variants.values())
    names = list(dict.fromkeys(name for variant in variants for name in variant.generators))
    courses = []
    for name, (colour, dash) in generator_styles(names).items():
        rows = [
            variant.generators[name].auc if name in variant.generators else _NOTHING for variant in variants
        ]
        courses.append(_course(name, rows, colour, dash))
    if len(names) > 1:
        rows = [variant.mean.auc for variant in variants]
        courses.append(_course("mean", rows, _MEAN, "-", is_mean=True))
    return courses


def _course(
    name: str, intervals: Sequence[Interval], colour: str, dash: Any, *, is_mean: bool = False
) -> _Course:
    value, low, high = np.array(intervals, np.float64).T
    return _Course(name, value, low, high, colour, dash, is_mean)


def _draw_courses(axes: Axes, courses: Sequence[_Course], variants: Sequence[str]) -> None:
    """Draw lines side by side, so that their intervals can be told apart."""
    axes.set_xlim(-1.0, len(variants) - 0.7)
    labels = [VARIANT_WORDS.get(name, short_name(name)) for name in variants]
    axes.set_xticks(range(len(variants)), labels, rotation=35, ha="right")
    axes.tick_params(labelsize=8)
    axes.axhline(0.5, color=GREY, linewidth=1.0, linestyle=(0, (1, 2)))
    label_chance(axes, -0.95, 0.5)
    dodge = np.linspace(-0.5, 0.5, len(courses)) * _DODGE if len(courses) > 1 else (0.0,)
    for course, shift in zip(courses, dodge, strict=True):
        x = np.arange(len(variants)) + (0.0 if course.is_mean else shift)
        width = 2.8 if course.is_mean else 1.3
        # An end of an interval that is not known, or not around the value, would stop matplotlib.
        bars = [np.fmax(course.value - course.low, 0), np.fmax(course.high - course.value, 0)]
        axes.errorbar(
            x,
            course.value,
            yerr=bars,
            color=course.colour,
            linestyle=course.dash,
            linewidth=width,
            elinewidth=0.45 * width,
            marker="o",
            markersize=2.2 + 1.2 * width,
            label=course.name,
        )
    _label_ends(axes, courses)
    make_plain(axes)
    axes.set_ylabel("AUC", fontsize=9)


def _label_ends(axes: Axes, courses: Sequence[_Course]) -> None:
    """Name every line to the right of the axes, joined by a leader to its last value."""
    low, high = axes.get_ylim()
    known = [(course, course.value[np.isfinite(course.value)]) for course in courses]
    lasts = sorted(((float(v[-1]), course) for course, v in known if len(v)), key=lambda last: last[0])
    ends = [(value - low) / (high - low) for value, _ in lasts]
    for (value, course), end, height in zip(lasts, ends, spread_labels(ends, _LABEL_GAP), strict=True):
        axes.annotate(
            f"{short_name(course.name)}  {value:.3f}",
            xy=(1.0, end),
            xytext=(1.07, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            fontweight="bold" if course.is_mean else "normal",
            color=course.colour,
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "color": course.colour,
                "linestyle": course.dash,
                "linewidth": 0.9,
                "relpos": (0.0, 0.5),
                "shrinkA": 3,
                "shrinkB": 0,
            },
        )
