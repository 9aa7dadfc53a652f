"""The picture of the ROC curves of an evaluation, by generator.

It measures nothing for the report: the AUC beside a curve is the area under what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bladescan.base.figures import GREY, as_png, make_plain, missing, new_figure, nothing_to_draw, say_in
from bladescan.base.output_files import write_file
from bladescan.detectors.manifest import HeadName
from bladescan.evaluation.metrics import anomaly_scores
from bladescan.evaluation.report import Scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from bladescan.evaluation.plot_styles import (
    Numbers,
    generator_styles,
    head_title,
    label_chance,
    n_faces,
    short_name,
    split_sets,
)

RATES = (0.01, 0.05)
"""False-alarm rates that the ROC curves mark."""


def plot_roc(scored: Scored, path: Path) -> None:
    """Write `roc_figure` as a PNG file.

    Raises:
        MissingDependencyError: matplotlib or scikit-learn is not installed.
        OutputError: the file cannot be written.
    """
    write_file(path, as_png(roc_figure(scored)))


def roc_figure(scored: Scored) -> Figure:
    """Draw one panel per head, one curve per generator against the photographs, best first in the key.

    The axis of the false alarms is drawn in square roots, for a detector is used at its left end; a dot marks
    the curve where 1% and 5% of the photographs are flagged.

    Args:
        scored: of one variant.

    Raises:
        MissingDependencyError: matplotlib or scikit-learn is not installed.
    """
    if not scored.scores:
        return nothing_to_draw("no scores")
    figure = new_figure(6.2 * len(scored.scores), 4.6)
    for i, (head, sets) in enumerate(scored.scores.items()):
        axes = figure.add_subplot(1, len(scored.scores), i + 1)
        photographs, generators = split_sets(sets)
        _draw_roc(axes, head, photographs, generators)
        shown = n_faces(len(photographs), "photographic")
        axes.set_title(f"{head_title(head)}, {shown}", fontsize=10, loc="left")
    said = "ROC curves by generator; dots: 1% and 5% of the photographs are flagged"
    figure.suptitle(said, fontsize=11, x=0.01, ha="left")
    return figure


class _Roc(NamedTuple):
    """Shares of photographs and AI-generated faces flagged, from the strictest threshold, and the area."""

    false_alarms: Numbers
    found: Numbers
    area: float


def _roc(photographs: Numbers, generator: Numbers) -> _Roc:
    """Compute the curve of anomaly scores, which are not NaN and not empty."""
    try:
        from sklearn.metrics import auc, roc_curve
    except ImportError as exc:
        raise missing("a ROC curve", "scikit-learn") from exc
    # Ranks make the same curve, and infinite scores have one.
    ranks = np.unique(np.concatenate([photographs, generator]), return_inverse=True)[1]
    labels = np.repeat([0, 1], [len(photographs), len(generator)])
    false_alarms, found, _ = roc_curve(labels, ranks, drop_intermediate=False)
    return _Roc(false_alarms, found, float(auc(false_alarms, found)))


def _draw_roc(axes: Axes, head: HeadName, photographs: Numbers, generators: Mapping[str, Numbers]) -> None:
    if not len(photographs) or not generators:
        say_in(axes, "no scores of photographs" if generators else "no generator")
        return
    curves = {
        name: _roc(anomaly_scores(head, photographs), anomaly_scores(head, scores))
        for name, scores in generators.items()
        if len(scores)
    }
    _draw_roc_axes(axes)
    styles = generator_styles(generators)
    for name, curve in curves.items():
        colour, dash = styles[name]
        axes.plot(*_filled(curve), color=colour, linestyle=dash, linewidth=1.5, label=name)
        at = np.searchsorted(curve.false_alarms, np.array(RATES) + 1e-12, side="right") - 1
        (dots,) = axes.plot(RATES, curve.found[at], "o", color=colour, label=f"{name}, marked")
        dots.set(markersize=4.5, clip_on=False, zorder=4)
    areas = {name: curves[name].area if name in curves else math.nan for name in generators}
    _draw_key(axes, areas, styles)


def _filled(curve: _Roc) -> tuple[Numbers, Numbers]:
    """Add points to a curve: a slope, where scores tie, is no straight line on this axis."""
    between = np.linspace(0, 1, 101) ** 2
    x = np.concatenate([curve.false_alarms, between])
    y = np.concatenate([curve.found, np.interp(between, curve.false_alarms, curve.found)])
    order = np.lexsort((y, x))
    return x[order], y[order]


def _draw_roc_axes(axes: Axes) -> None:
    axes.set_xscale("function", functions=(_signed_root, _signed_square))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    ticks = (0.0, *RATES, 0.2, 0.5, 1.0)
    axes.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
    axes.set_yticks(np.linspace(0, 1, 6), [f"{tick:.0%}" for tick in np.linspace(0, 1, 6)])
    axes.tick_params(labelsize=8)
    for rate in RATES:
        axes.axvline(rate, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    chance = np.linspace(0, 1, 201)
    axes.plot(chance, chance, color=GREY, linewidth=0.8, label="chance")
    label_chance(axes, 0.53, 0.43)
    make_plain(axes)
    axes.set_xlabel("photographic faces flagged (square-root scale)", fontsize=9)
    axes.set_ylabel("AI-generated faces flagged", fontsize=9)


def _signed_root(x: Numbers) -> Numbers:
    return np.sign(x) * np.sqrt(np.abs(x))


def _signed_square(x: Numbers) -> Numbers:
    return np.sign(x) * np.square(x)


def _draw_key(axes: Axes, areas: Mapping[str, float], styles: Mapping[str, tuple[str, Any]]) -> None:
    """Draw to the right, the largest area on top: a piece of the line, the area, the name."""
    axes.text(1.115, 0.985, "AUC", transform=axes.transAxes, fontsize=8, color=GREY, va="center")
    names = sorted(areas, key=lambda name: -areas[name] if math.isfinite(areas[name]) else math.inf)
    for i, name in enumerate(names):
        colour, dash = styles[name]
        height = 0.92 - i * min(0.065, 0.9 / len(names))
        axes.plot(
            (1.03, 1.1),
            (height, height),
            color=colour,
            linestyle=dash,
            transform=axes.transAxes,
            clip_on=False,
        )
        area = f"{areas[name]:.3f}" if math.isfinite(areas[name]) else "none"
        axes.text(
            1.115,
            height,
            f"{area}  {short_name(name)}",
            transform=axes.transAxes,
            color=colour,
            fontsize=8.5,
            va="center",
            parse_math=False,
        )
