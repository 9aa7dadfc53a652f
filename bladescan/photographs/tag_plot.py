"""The picture of the tags found in an index: photographs by class or range of values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bladescan.base.figures import GREY, as_png, nothing_to_draw, panel_grid
from bladescan.base.output_files import write_file
from bladescan.tasks.pretext_tasks import task_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bladescan.photographs.tag_summary import TagSummary

_BAR = "#0072B2"
_MAX_BARS = 14
_TAG_COLUMNS = 3


def plot_tags(rows: Sequence[TagSummary], path: Path) -> None:
    """Write `tags_figure` as a PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    write_file(path, as_png(tags_figure(rows)))


def tags_figure(rows: Sequence[TagSummary]) -> Figure:
    """Draw one panel per tag: how many photographs have each class or range of values, and how many lack it.

    Args:
        rows: from `bladescan.photographs.tag_summary.summarise`.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    if not rows:
        return nothing_to_draw("no tags")
    n_bars = [len(_bars(row)) for row in rows]
    figure, panels = panel_grid([0.55 + 0.19 * n for n in n_bars], n_columns=_TAG_COLUMNS, width=3.8)
    for i, (panel, row) in enumerate(zip(panels, rows, strict=True)):
        first = i - i % _TAG_COLUMNS
        _draw_bars(panel, _bars(row), room=max(n_bars[first : first + _TAG_COLUMNS]))
        total = row.n_present + row.n_missing
        share = f"{row.n_present / total:.0%}" if total else "none"
        panel.set_title(
            f"{task_title(row.task)}: {row.n_present} of {total} ({share})", fontsize=9, loc="left"
        )
    figure.suptitle("Photographs by tag", fontsize=11, x=0.01, ha="left")
    return figure


def _bars(row: TagSummary) -> list[tuple[str, int]]:
    """List label and count of every bar, top to bottom; what does not fit is summed up in one."""
    shown = [(str(label), int(count)) for label, count in row.counts.items()]
    if len(shown) > _MAX_BARS:
        rest = shown[_MAX_BARS - 1 :]
        shown[_MAX_BARS - 1 :] = [(f"{len(rest)} more", sum(count for _, count in rest))]
    return [*shown, ("missing", row.n_missing)]


def _draw_bars(panel: Axes, bars: Sequence[tuple[str, int]], *, room: int) -> None:
    """Draw bars from the top, as thick as if there were ``room`` of them."""
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
