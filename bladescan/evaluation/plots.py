"""Pictures of an evaluation: ROC curves and histograms of the scores; what its other pictures share.

Every picture is a figure builder and a writer of that figure, as in `plots`. A generator has the same colour
in all of them, its place in the order given. Scores and embeddings that are not finite are left out, except
that an infinite score keeps its rank; where nothing is left to draw, the picture says so.

It measures nothing for the report: the AUC beside a ROC curve is the area under what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.base.figures import GREY, as_png, make_plain, missing, new_figure, nothing_to_draw, say_in
from bladescan.base.output_files import write_file
from bladescan.detectors.manifest import HeadName
from bladescan.evaluation.metrics import anomaly_scores
from bladescan.evaluation.report import PHOTOGRAPHS, Report, Scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = NDArray[np.float64]

RATES = (0.01, 0.05)
"""False-alarm rates that the ROC curves mark."""

PHOTOGRAPHIC = "#5A5A5A"
PALE = "#A0A0A0"
_LINE = "#000000"
# Colours of Okabe and Ito, which people with any colour vision tell apart, dark enough for thin lines on
# white; once they are used up, a dash tells the second and third round from the first.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#B8558F", "#B38600")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)))
_LONGEST_NAME = 24

_N_BINS = 60
_FAR = 3.0
MARGIN = 0.04


def plot_roc(scored: Scored, path: Path) -> None:
    """Write `roc_figure` as a PNG file.

    Raises:
        MissingDependencyError: matplotlib or scikit-learn is not installed.
        OutputError: the file cannot be written.
    """
    write_file(path, as_png(roc_figure(scored)))


def plot_scores(scored: Scored, report: Report, path: Path) -> None:
    """Write `scores_figure` as a PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    write_file(path, as_png(scores_figure(scored, report)))


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
        photographs, generators = _split(sets)
        _draw_roc(axes, head, photographs, generators)
        shown = n_faces(len(photographs), "photographic")
        axes.set_title(f"{head_title(head)}, {shown}", fontsize=10, loc="left")
    figure.suptitle("ROC curves by generator", fontsize=11, x=0.01, ha="left")
    return figure


def scores_figure(scored: Scored, report: Report) -> Figure:
    """Draw histograms of the score: a column per head, a row per set, a line for the detector's threshold.

    What is flagged is drawn dark. Scores far outside the others' range are drawn at the edge, and counted
    there. P(AI-generated) is drawn by its log-odds, for most of it lies next to 0 and 1.

    Args:
        scored: of one variant.
        report: for the threshold of every head.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    heads = [head for head in scored.scores if head in report.heads]
    if not heads:
        return nothing_to_draw("no scores")
    n_rows = max(len({PHOTOGRAPHS, *scored.scores[head]}) for head in heads)
    figure = new_figure(5.6 * len(heads), 1.3 + 0.62 * n_rows)
    grid = figure.add_gridspec(n_rows, len(heads))
    for column, head in enumerate(heads):
        panels = [figure.add_subplot(grid[row, column]) for row in range(n_rows)]
        _draw_histograms(panels, head, scored.scores[head], report.heads[head].threshold)
        panels[0].set_title(head_title(head), fontsize=10, loc="left")
    said = f"Scores; dark: flagged, {100 * report.false_alarm:.3g}% false alarms asked"
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


def _draw_histograms(
    panels: Sequence[Axes], head: HeadName, sets: Mapping[str, Numbers], threshold: float
) -> None:
    """Draw one panel per set, from the top; all of them over the same range."""
    photographs, generators = _split(sets)
    colours = {name: colour for name, (colour, _) in generator_styles(generators).items()}
    rows = {PHOTOGRAPHS: photographs, **generators}
    scale = _Scale(head)
    line = float(scale.place(np.array([threshold]))[0])
    edges = _edges([scale.place(scores) for scores in rows.values()], line)
    for panel, (name, scores) in zip(panels, rows.items(), strict=False):
        flagged = anomaly_scores(head, scores) > anomaly_scores(head, np.array([threshold]))
        _draw_row(panel, scale.place(scores), flagged, edges, colours.get(name, PHOTOGRAPHIC))
        if math.isfinite(line):
            panel.axvline(line, color=_LINE, linewidth=1.1)
        share = f"{flagged.mean():.0%} of {len(scores):,} flagged" if len(scores) else "no scores"
        _name_row(panel, name, share, colours.get(name, PHOTOGRAPHIC))
    for panel in panels[len(rows) :]:
        panel.set_axis_off()
    _label_range(panels[len(rows) - 1], scale, edges, line)


class _Scale:
    """Where the scores of a head stand on its axis."""

    def __init__(self, head: HeadName) -> None:
        self.log_odds = head == "binary"
        self.label = "P(AI-generated), by log-odds" if self.log_odds else "log-likelihood"

    def place(self, scores: Numbers) -> Numbers:
        if not self.log_odds:
            return scores
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(scores) - np.log1p(-scores)

    def score(self, place: float) -> str:
        """Write the score at a place, with enough digits to differ from its neighbours."""
        if not self.log_odds:
            return f"{place:,.4g}" if abs(place) < 1e5 else f"{place:.3g}"
        p = 1.0 / (1.0 + math.exp(-place)) if place > -700.0 else 0.0
        rest = 1.0 / (1.0 + math.exp(place)) if place < 700.0 else 0.0
        small = f"{p:.1g}" if p < 0.01 else f"1 - {rest:.1g}"
        return f"{p:.2g}" if min(p, rest) >= 0.01 else small.replace("e-0", "e-")

    def ticks(self, low: float, high: float) -> list[float]:
        """List places of round P, three to seven of them, symmetric about a half."""
        powers = np.arange(-15, 16)
        logits = np.sign(powers) * np.log(np.maximum(10.0 ** np.abs(powers), 2.0) - 1.0)
        inside = (logits >= low) & (logits <= high)
        if inside.sum() < 3:
            tenths = [self.place(np.array(p)) for p in np.arange(5, 100, 5) / 100]
            near = [float(x) for x in tenths if low <= x <= high]
            return near[:: max(1, math.ceil(len(near) / 7))]
        step = max(1, math.ceil(inside.sum() / 7))
        return [float(x) for x in logits[inside & (powers % step == 0)]]


def _edges(sets: Sequence[Numbers], threshold: float) -> Numbers:
    """Set the edges of the bins ``[n + 1]``, the threshold among them: no bin is flagged in part.

    They reach over the middle 98% of every set, but from the photographs (the first set) no further than
    `_FAR` times the width that those have.
    """
    known = [part[np.isfinite(part)] for part in sets]
    known = [part for part in known if len(part)]
    if not known:
        return np.linspace(0, 1, _N_BINS + 1)
    spans = np.array([np.quantile(part, (0.01, 0.99)) for part in known])
    low, high = spans[0]
    reach = _FAR * (max(high - low, 1e-3 * abs(high)) or 1.0)
    first, last = max(low - reach, spans[:, 0].min()), min(high + reach, spans[:, 1].max())
    if math.isfinite(threshold):
        first, last = min(first, threshold), max(last, threshold)
    width = max(last - first, 1e-3 * abs(high)) or 1.0
    first, last = first - MARGIN * width, last + MARGIN * width
    if not math.isfinite(threshold):
        return np.linspace(first, last, _N_BINS + 1)
    size = (last - first) / _N_BINS
    below, above = math.ceil((threshold - first) / size), math.ceil((last - threshold) / size)
    edges: Numbers = threshold + size * np.arange(-below, above + 1)
    return edges


def _draw_row(panel: Axes, places: Numbers, flagged: NDArray[np.bool_], edges: Numbers, colour: str) -> None:
    """Draw two histograms on top of each other, the flagged dark; count what lies outside the edges there."""
    inner = np.clip(places, 0.5 * (edges[0] + edges[1]), 0.5 * (edges[-2] + edges[-1]))
    counts = [np.histogram(inner[part], edges)[0] for part in (~flagged, flagged)]
    for part, alpha in zip(counts, (0.4, 1.0), strict=True):
        panel.stairs(part, edges, fill=True, color=colour, alpha=alpha, linewidth=0)
    top = 1.4 * max(1, *(int(part.max()) for part in counts))
    panel.set_ylim(0, top)
    panel.set_xlim(edges[0], edges[-1])
    below, above = int((places < edges[0]).sum()), int((places > edges[-1]).sum())
    for count, x, side in ((below, 0.005, "left"), (above, 0.995, "right")):
        if count:
            said = f"◂ {count:,} lower" if side == "left" else f"{count:,} higher ▸"
            panel.text(x, 0.99, said, transform=panel.transAxes, ha=side, va="top", fontsize=7, color=GREY)
    panel.set_yticks([])
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(axis="x", labelbottom=False, length=0)


def _name_row(panel: Axes, name: str, share: str, colour: str) -> None:
    for height, said, size in ((0.52, short_name(name), 9.0), (0.4, share, 7.5)):
        panel.text(
            -0.015,
            height,
            said,
            transform=panel.transAxes,
            ha="right",
            va="bottom" if size > 8 else "top",
            fontsize=size,
            color=colour if size > 8 else GREY,
            parse_math=False,
        )


def _label_range(panel: Axes, scale: _Scale, edges: Numbers, line: float) -> None:
    """Put ticks and label below the last row, and the threshold in the label."""
    panel.tick_params(axis="x", labelbottom=True, length=3, labelsize=8)
    if scale.log_odds:
        ticks = scale.ticks(edges[0], edges[-1])
        panel.set_xticks(ticks, [scale.score(tick) for tick in ticks])
    else:
        panel.locator_params(axis="x", nbins=6)
    threshold = f"; line: threshold {scale.score(line)}" if math.isfinite(line) else ""
    panel.set_xlabel(scale.label + threshold, fontsize=9)


def _split(sets: Mapping[str, Numbers]) -> tuple[Numbers, dict[str, Numbers]]:
    """Split scores into those of the photographs and of every generator, without NaN."""
    known = {name: scores[~np.isnan(scores)] for name, scores in sets.items()}
    return known.pop(PHOTOGRAPHS, np.empty(0)), known


def generator_styles(generators: Iterable[str]) -> dict[str, tuple[str, Any]]:
    """Give every generator a colour and a dash, by its place."""
    return {
        name: (_COLOURS[i % len(_COLOURS)], _DASHES[i // len(_COLOURS) % len(_DASHES)])
        for i, name in enumerate(generators)
    }


def head_title(head: HeadName) -> str:
    """Name a head in words."""
    return f"{head} head"


def label_chance(axes: Axes, x: float, y: float) -> None:
    """Label the line of chance, readable on top of what crosses it."""
    background = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
    axes.text(x, y, "chance", color=GREY, fontsize=8, va="center", bbox=background, zorder=5)


def n_faces(n: int, kind: str = "") -> str:
    """Write a count in words."""
    return " ".join(word for word in (f"{n:,}", kind, "face" if n == 1 else "faces") if word)


def short_name(name: str) -> str:
    """Shorten a name from the command line to what a font can draw and a label can hold."""
    clean = " ".join(name.encode("utf-8", "replace").decode().split())
    return clean if len(clean) <= _LONGEST_NAME else f"{clean[: _LONGEST_NAME - 1]}…"
