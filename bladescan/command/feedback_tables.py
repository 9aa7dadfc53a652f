"""What ``bladescan feedback`` prints for people: tables and lines. It counts nothing itself."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bladescan.base.text import counted, printable

if TYPE_CHECKING:
    from bladescan.feedback.job import Feedback
    from bladescan.feedback.rates import MeasuredShare, RateBounds

_MOST_FOLDERS = 20
_LEAST_WIDTH = 80


def print_feedback(found: Feedback) -> None:
    """Print all that decisions say of a scan."""
    for line in _of_decisions(found):
        print(line)
    _print_table(("reviewed", "decided", "wrong", "share", "95% interval"), _reviewed(found))
    if found.rates is not None:
        _print_table(("whole scan", "estimate", "95% interval"), _whole(found))
    _print_table(_BAND_TITLES, _bands(found))
    if len(found.by_folder) > 1:
        _print_table(_FOLDER_TITLES, _folders(found))
        if len(found.by_folder) > _MOST_FOLDERS:
            print(f"and {counted(len(found.by_folder) - _MOST_FOLDERS, 'more folder')}; --json has them all")
    for line in [*_of_threshold(found), *_of_lists(found), *_of_ledger(found), *found.said]:
        print(printable(line))


def _print_table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout)
    if not console.is_terminal:  # nobody can make a pipe wider
        console = Console(file=sys.stdout, width=max(_LEAST_WIDTH, 4 * _LEAST_WIDTH))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, title in enumerate(titles):
        table.add_column(title, justify="left" if not place else "right", no_wrap=bool(place))
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print()
    console.print(table)


def _of_decisions(found: Feedback) -> Iterator[str]:
    from bladescan.ledger.decisions import count_words

    words = count_words(found.decisions.faces.values())
    told = ", ".join(f"{n} {word}" for word, n in words.items())
    replaced = f" ({found.decisions.n_replaced} replaced by others)" if found.decisions.n_replaced else ""
    yield f"{counted(len(found.decisions.faces), 'decision')}{replaced}: {told}"


def _reviewed(found: Feedback) -> Iterator[tuple[str, ...]]:
    yield "flagged, in truth photographic", *_cells(found.false_among_flagged)
    yield "not flagged, in truth AI-generated", *_cells(found.missed_among_others)


def _cells(share: MeasuredShare) -> tuple[str, ...]:
    if share.share is None:
        return "0", "", "unknown", ""
    return str(share.n), str(share.n_found), _percent(share.share), _interval(share.low, share.high)


def _whole(found: Feedback) -> Iterator[tuple[str, ...]]:
    assert found.rates is not None
    rates: dict[str, RateBounds] = {
        "photographic faces that were flagged (false-alarm rate)": found.rates.false_alarm,
        "AI-generated faces that were not (misses)": found.rates.missed,
        "flagged faces that are photographic": found.rates.false_among_flagged,
        "faces that are AI-generated": found.rates.ai_generated,
    }
    for title, rate in rates.items():
        estimate = "unknown" if rate.estimate is None else _percent(rate.estimate)
        yield title, estimate, _interval(rate.low, rate.high)


_BAND_TITLES = ("by score", "from", "to", "faces", "decided", "AI-generated", "share", "95% interval")


def _bands(found: Feedback) -> Iterator[tuple[str, ...]]:
    from bladescan.feedback.rates import measured_share
    from bladescan.feedback.scanned_faces import SIDES

    for band in found.bands:
        decided, *rest = _cells(measured_share(band.n_ai_generated, band.n_sure))
        yield SIDES[band.side], f"{band.low:.4g}", f"{band.high:.4g}", str(band.n), decided, *rest


_FOLDER_TITLES = (
    "by folder",
    "flagged",
    "photographic",
    "95% interval",
    "not flagged",
    "AI-generated",
    "95% interval ",
)


def _folders(found: Feedback) -> Iterator[tuple[str, ...]]:
    for each in found.by_folder[:_MOST_FOLDERS]:
        n, count, _, interval = _cells(each.false_among_flagged)
        n_others, missed, _, others = _cells(each.missed_among_others)
        yield each.folder or ".", n, count, interval, n_others, missed, others


def _of_threshold(found: Feedback) -> Iterator[str]:
    proposal = found.proposal
    if proposal is None:
        return
    now = "" if found.faces.threshold is None else f"; the scan's is {found.faces.threshold:.6g}"
    yield ""
    rate = f"a false-alarm rate of {proposal.false_alarm:g}"
    yield f"Proposed threshold for {rate}: {proposal.threshold:.6g}{now}."
    changes = {
        "faces of this scan": (proposal.n_flagged, proposal.n_flagged_before),
        "of the reviewed photographic ones": (proposal.false_alarms, proposal.false_alarms_before),
        "of the reviewed AI-generated ones": (proposal.found, proposal.found_before),
    }
    told = ", ".join(f"{after} {what} (was {before})" for what, (after, before) in changes.items())
    yield f"It flags {told}."
    if proposal.same_as_rate is not None:
        yield f"bladescan scan --false-alarm {proposal.same_as_rate:g} flags the same faces of this scan."


def _of_lists(found: Feedback) -> Iterator[str]:
    if found.lists is None:
        return
    yield ""
    yield "Lists: " + ", ".join(f"{name} {counted(n, 'picture')}" for name, n in found.lists.n.items())
    if found.lists.left_out:
        yield "Left out: " + ", ".join(f"{n} {reason}" for reason, n in found.lists.left_out.items())


def _of_ledger(found: Feedback) -> Iterator[str]:
    if found.kept is None:
        return
    told = f"{found.kept.new} new, {found.kept.changed} changed, {found.kept.known} known already"
    lost = f", {found.kept.unknown} of files that could not be read" if found.kept.unknown else ""
    yield f"Kept in the ledger: {told}{lost}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _interval(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}%"
