"""The picture of the scores of an evaluation: a histogram for every set, and the detector's threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bladescan.base.figures import GREY, as_png, new_figure, nothing_to_draw
from bladescan.base.output_files import write_file
from bladescan.detectors.manifest import HeadName
from bladescan.evaluation.metrics import SCORE_NAMES, anomaly_scores
from bladescan.evaluation.report import PHOTOGRAPHS, Report, Scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from bladescan.evaluation.plot_styles import (
    MARGIN,
    PHOTOGRAPHIC,
    Numbers,
    generator_styles,
    head_title,
    short_name,
    split_sets,
)

_LINE = "#000000"
_N_BINS = 60
_FAR = 3.0


def plot_scores(scored: Scored, report: Report, path: Path) -> None:
    """Write `scores_figure` as a PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    write_file(path, as_png(scores_figure(scored, report)))


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


def _draw_histograms(
    panels: Sequence[Axes], head: HeadName, sets: Mapping[str, Numbers], threshold: float
) -> None:
    """Draw one panel per set, from the top; all of them over the same range."""
    photographs, generators = split_sets(sets)
    colours = {name: colour for name, (colour, _) in generator_styles(generators).items()}
    rows = {PHOTOGRAPHS: photographs, **generators}
    scale = _ScoreAxis(head)
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


class _ScoreAxis:
    """Where the scores of a head stand on its axis."""

    def __init__(self, head: HeadName) -> None:
        self.log_odds = head == "binary"
        name = SCORE_NAMES[head]
        self.label = f"suspicious ← {name}" if head == "one-class" else f"{name} → suspicious"
        if self.log_odds:
            self.label = f"{name} by log-odds → suspicious"

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


def _label_range(panel: Axes, scale: _ScoreAxis, edges: Numbers, line: float) -> None:
    """Put ticks and label below the last row, and the threshold in the label."""
    panel.tick_params(axis="x", labelbottom=True, length=3, labelsize=8)
    if scale.log_odds:
        ticks = scale.ticks(edges[0], edges[-1])
        panel.set_xticks(ticks, [scale.score(tick) for tick in ticks])
    else:
        panel.locator_params(axis="x", nbins=6)
    threshold = f"; line: threshold {scale.score(line)}" if math.isfinite(line) else ""
    panel.set_xlabel(scale.label + threshold, fontsize=9)
