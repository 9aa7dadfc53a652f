"""``bladescan ledger``: what a ledger holds, and keeping it small. `bladescan.command.app` registers it."""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.base.text import counted, printable
from bladescan.command import options as o
from bladescan.command.configured import ConfiguredCommand
from bladescan.command.guard import guarded
from bladescan.command.inputs import check_apart

if TYPE_CHECKING:
    from bladescan.base.records import ImageRecord, Verdict
    from bladescan.ledger.ledger import EntryCount
    from bladescan.outputs.run import RunInfo
    from bladescan.scanning.tally import Tally

_logger = logging.getLogger(__name__)


app = typer.Typer(help="Look into a ledger of scans, or prune it.", no_args_is_help=True)

LedgerPath = Annotated[str, typer.Argument(metavar="LEDGER", help="The FILE of `scan --ledger FILE`.")]
VerdictName = Annotated[
    str | None,
    typer.Option(
        "--verdict",
        metavar="NAME",
        help="Only this verdict: not-flagged, unsure, ai-generated, no-face or unreadable.",
    ),
]


@app.command(cls=ConfiguredCommand)
@guarded
def counts(
    ledger: LedgerPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: o.Debug = False,
) -> None:
    """Count images by detector and verdict."""
    from bladescan.ledger.decisions import count_words
    from bladescan.ledger.ledger import open_reader

    with open_reader(ledger) as reader:
        n_runs, last = reader.runs()
        found = reader.counts()
        decisions = count_words(reader.decisions())
    groups = [_group(described, list(group)) for described, group in groupby(found, lambda c: c.settings)]
    if as_json:
        print(
            json.dumps({"runs": n_runs, "last_run": _time(last), "settings": groups, "decisions": decisions})
        )
        return
    total = sum(count.n for count in found)
    print(
        printable(f"{ledger}: {counted(total, 'image')}, {counted(n_runs, 'run')}, the last at {_time(last)}")
    )
    for group in groups:
        print(printable(_described(group)))
        for verdict, n in group["verdicts"].items():
            print(f"  {verdict:<13}{n:>12}")
    if any(decisions.values()):
        print("decided by reviewers")
        for word, n in decisions.items():
            print(f"  {word:<13}{n:>12}")


def _group(described: str, found: list[EntryCount]) -> dict[str, Any]:
    verdicts = {count.verdict.value: count.n for count in found}
    return {"current": found[0].current, "verdicts": verdicts, **json.loads(described)}


def _described(group: dict[str, Any]) -> str:
    stale = "" if group["current"] else " (stale)"
    return (
        f"{group['detector']} {group['detector_sha256'][:12]}, {group['head']} head, false alarms "
        f"{group['false_alarm']:g}, faces by {group['face_finder']}, bladescan {group['version']}{stale}"
    )


@app.command(cls=ConfiguredCommand)
@guarded
def find(
    ledger: LedgerPath,
    pattern: Annotated[
        str, typer.Argument(help="Part of the path, or a glob for all of it if it has *, ? or [.")
    ] = "",
    verdict: VerdictName = None,
    null: Annotated[
        bool,
        typer.Option(
            "--null", "-0", help="Print only names, each ended by NUL, for xargs -0 or `scan - -0`."
        ),
    ] = False,
    debug: o.Debug = False,
) -> None:
    """List images by path and verdict.

    Each with the time of its scan.

    Example: `bladescan ledger find ledger.sqlite '*/2026/11/*' --verdict ai-generated`
    """
    from bladescan.ledger.ledger import open_reader

    matches = _matcher(pattern)
    with open_reader(ledger) as reader:
        for record, scanned_at in reader.entries(_verdict(verdict)):
            if not matches(record.source):
                continue
            if null:
                sys.stdout.buffer.write(os.fsencode(record.source) + b"\0")
            else:
                reason = f":{record.reason.value}" if record.reason else ""
                print(f"{_time(scanned_at)}  {record.verdict.value}{reason}  {printable(record.source)}")
    sys.stdout.flush()


def _matcher(pattern: str) -> Callable[[str], Any]:
    if set(pattern) & set("*?["):
        return re.compile(fnmatch.translate(pattern)).match
    return lambda name: pattern in name


def _verdict(name: str | None) -> Verdict | None:
    from bladescan.base.records import Verdict

    if name is None:
        return None
    try:
        return Verdict(name)
    except ValueError:
        raise UnknownNameError("verdict", name, [verdict.value for verdict in Verdict]) from None


@app.command(cls=ConfiguredCommand)
@guarded
def export(
    ledger: LedgerPath,
    output: o.Output = None,
    format: o.Format = "auto",
    sort: o.Sort = "auto",
    top: o.Top = None,
    verdict: VerdictName = None,
    debug: o.Debug = False,
) -> None:
    """Write the verdicts in a format of `scan`.

    Entries of another detector or other settings than the newest run's are stale and are left out.
    """
    from bladescan.ledger.decisions import with_decisions
    from bladescan.ledger.ledger import open_reader
    from bladescan.outputs.sink import open_sink
    from bladescan.scanning.job import OutputOptions
    from bladescan.scanning.tally import Tally

    check_apart(ledger=ledger, output=output)
    ordering = OutputOptions(output, format, sort=sort, top=top).ordering()
    tally = Tally()
    with open_reader(ledger) as reader:
        run = _run_info(json.loads(reader.current()), reader.runs()[1])
        with open_sink(output, format, run, stream=sys.stdout.buffer) as sink:
            entries = reader.entries(_verdict(verdict), only_current=True)
            records = (with_decisions(entry.record, reader.decided) for entry in entries)
            for record in ordering.ordered(_counted(records, tally)):
                sink.write(record)
            tally.n_below_top = ordering.n_below_top
            sink.finish(tally.summary())
        stale = sum(count.n for count in reader.counts() if not count.current)
    if stale:
        _logger.warning(f"{stale} entries with other settings are left out")


def _counted(records: Iterable[ImageRecord], tally: Tally) -> Iterator[ImageRecord]:
    for record in records:
        tally.count(record)
        yield record


def _run_info(fields: dict[str, Any], started: int) -> RunInfo:
    from bladescan.outputs.run import RunInfo

    if not fields:
        raise UsageError("the ledger is empty: no scan has written to it")
    names = (
        *("version", "detector", "detector_sha256", "backend", "head", "face_finder", "false_alarm"),
        *("declared", "provenance_reader", "trust_list", "stability"),
    )
    shared = {name: fields[name] for name in names}
    return RunInfo(**shared, device="", fdr=None, threshold=None, started=_time(started))


@app.command(cls=ConfiguredCommand)
@guarded
def prune(
    ledger: LedgerPath,
    gone: Annotated[bool, typer.Option("--gone", help="Remove entries whose file no longer exists.")] = False,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="Remove entries older than WHEN: a number of days, or a date such as 2026-01-31.",
        ),
    ] = None,
    stale: Annotated[
        bool,
        typer.Option(
            "--stale", help="Remove entries of another detector or other settings than the newest run's."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print how many would be removed.")] = False,
    debug: o.Debug = False,
) -> None:
    """Remove entries.

    Their sources are scanned again when a scan meets them.
    """
    from bladescan.ledger.ledger import Ledger, PruneRule, open_reader

    before = None if older_than is None else _before(older_than)
    if not gone and before is None and not stale:
        raise UsageError("nothing to prune: give --gone, --older-than WHEN or --stale")
    with open_reader(ledger):
        pass  # it is there, and it is one
    file = Ledger(ledger)
    try:
        n = file.prune(PruneRule(gone, before, stale), dry_run=dry_run)
        left = file.count() - (n if dry_run else 0)
    finally:
        file.close()
    print(f"{n} entries {'would be ' if dry_run else ''}removed, {left} left")


def _before(text: str) -> float:
    from bladescan.base import clock

    try:
        if text.isdecimal():
            return (clock.now() - timedelta(days=int(text))).timestamp()
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError) as exc:
        raise UsageError(f"--older-than {text!r}: expected days or a date such as 2026-01-31") from exc


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
