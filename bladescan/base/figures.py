"""What all plots share: a figure that draws to memory, plain axes, PNG bytes. It knows no measurement.

matplotlib is imported inside functions; its global state is never touched.
"""

from __future__ import annotations

import io
import warnings
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
