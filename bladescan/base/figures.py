"""What all plots share: a figure that draws to memory, plain axes, PNG bytes. It knows no measurement.

matplotlib is imported inside functions; its global state is never touched.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bladescan.base.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
GREY = "#767676"


def missing(what: str, package: str) -> MissingDependencyError:
    """Make the error that names what to install."""
    return MissingDependencyError(what, package, "pip install 'bladescan[train]'")


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure that draws to memory; its size is in inches.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise missing("a plot", "matplotlib") from exc
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def nothing_to_draw(said: str) -> Figure:
    """Make a small figure that says why it is empty."""
    figure = new_figure(5.6, 2.0)
    figure.text(0.5, 0.5, said, ha="center", va="center", color=GREY, fontsize=9)
    return figure


def say_in(panel: Axes, said: str) -> None:
    """Write words in place of a panel's curves."""
    panel.set_xticks([])
    panel.set_yticks([])
    panel.text(0.5, 0.5, said, transform=panel.transAxes, ha="center", va="center", color=GREY)


def make_plain(axes: Axes) -> None:
    """Leave two spines and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.6)
    axes.set_axisbelow(True)


def as_png(figure: Figure) -> bytes:
    """Encode a figure as a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name may have letters that the font lacks: boxes are drawn, and no warning is printed.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def panel_grid(heights: Sequence[float], *, n_columns: int, width: float) -> tuple[Figure, list[Axes]]:
    """Lay out one panel per height, row by row.

    Args:
        heights: of the panels in inches; a row is as high as its highest.
        n_columns: at most so many.
        width: of a column in inches.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
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


def spread_labels(places: Sequence[float], gap: float) -> list[float]:
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
