"""Markdown tables, the cells in them, and the options that every benchmark takes. It measures nothing."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec

Interval = tuple[float, float, float]
"""A value and the ends of its 95% interval, as `bladescan.evaluation.metrics.Interval`."""


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Lay rows out as a Markdown table."""
    return "\n".join([heading(*header), *(row(*cells) for cells in rows)])


def heading(*header: object) -> str:
    """Lay the names of the columns out: for a table whose rows are printed as they come."""
    return f"{row(*header)}\n{row(*['---'] * len(header))}"


def row(*cells: object) -> str:
    """Lay one row out."""
    return f"| {' | '.join(map(str, cells))} |"


def cell(interval: Interval) -> str:
    """Write a value with its interval."""
    value, low, high = interval
    return f"{value:.2f} ({low:.2f}-{high:.2f})"


def percent(share: Interval | None) -> str:
    """Write a share with its interval in percent; a dash if there is none."""
    if share is None:
        return "-"
    value, low, high = share
    return f"{100 * value:.1f} ({100 * low:.0f}-{100 * high:.0f})"


def parser(spec: ModuleSpec, about: str | None) -> argparse.ArgumentParser:
    """Make the parser of a benchmark from its ``__spec__`` and ``__doc__``, which ``--help`` shows whole."""
    return argparse.ArgumentParser(
        prog=f"python -m {spec.name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def say(text: str) -> None:
    """Tell on stderr, with the time of day, how far a benchmark has come."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
