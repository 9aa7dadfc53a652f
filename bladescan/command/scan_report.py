"""What a scan says of itself on standard error, as lines for people or for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from bladescan.base.logs import shown, source_fields, wants_json
from bladescan.base.records import ImageRecord
from bladescan.base.terminal import Heartbeat, ProgressLine, say
from bladescan.outputs.run import RunInfo, RunSummary
from bladescan.outputs.sink import STDOUT_NAMES
from bladescan.scanning.job import Tally


class ScanReport:
    """The lines of one scan. Within its context the count is shown, or progress said now and then.

    Args:
        tally: of the scan.
        output: the file that verdicts go to, None for standard output.
        quiet: say nothing but what broke the scan off.
    """

    def __init__(self, tally: Tally, output: str | None, *, quiet: bool) -> None:
        self._tally, self._quiet = tally, quiet
        self._output = None if output in STDOUT_NAMES else output
        self._table = self._output is None and sys.stdout.isatty()
        self._progress = ProgressLine("scanning", quiet=quiet)
        self._heartbeat = Heartbeat(self._facts, quiet=quiet)
        self._open = ExitStack()

    def begin(self, run: RunInfo, notices: Iterable[str]) -> None:
        """What scans, and what to know about it."""
        if self._quiet:
            return
        if wants_json():
            say(f"scanning with {run.detector}", "start", **asdict(run))
        for notice in notices:
            self._progress.say(f"bladescan: note: {notice}", "note", "warning")

    def seen(self, record: ImageRecord) -> None:
        """One image is done."""
        self._progress.advance()
        if record.reason is None or self._quiet or self._table:  # a table on the terminal says it itself
            return
        why = record.reason.value + (f": {record.detail}" if record.detail else "")
        if wants_json():
            fields = source_fields(record.source) | {"reason": record.reason.value, "detail": record.detail}
            say(why, "unreadable", "warning", **fields)
        else:
            self._progress.say(f"{shown(record.source)}: {why}")

    def broken_off(self, event: str, why: str, kept: str | None, *, resumable: bool) -> None:
        """The scan did not come to its end; always said."""
        what = f"; kept {kept}" if kept else ""
        what += "; the same command with --resume goes on" if resumable else ""
        facts = self._facts() | {"kept": kept, "resumable": resumable}
        self._progress.say(f"bladescan: {why}{what}", event, "warning", **facts)

    def end(self, summary: RunSummary, scanned_by: str) -> None:
        """The summary."""
        if self._quiet:
            return
        line = _line(summary, scanned_by)
        if wants_json():
            say(line, "summary", **asdict(summary), output=self._output)
            return
        say(line)
        if summary.n_unchanged:
            say(f"unchanged since an earlier scan: {summary.n_unchanged}")
        if summary.reasons:
            say("unreadable: " + ", ".join(f"{n} {reason}" for reason, n in summary.reasons.items()))
        if self._output is not None and summary.complete:
            say(f"verdicts: {self._output}")

    def _facts(self) -> dict[str, Any]:
        summary = asdict(self._tally.summary())
        keys = ("n_images", "n_faces", "verdicts", "seconds", "images_per_second", "bytes_read")
        return {key: summary[key] for key in keys}

    def __enter__(self) -> Self:
        self._open.enter_context(self._progress)
        self._open.enter_context(self._heartbeat)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


def _line(summary: RunSummary, scanned_by: str) -> str:
    from rich.filesize import decimal

    counts = ", ".join(f"{n} {verdict}" for verdict, n in summary.verdicts.items() if n)
    none = "nothing new" if summary.n_unchanged else "nothing to scan"
    return (
        f"{summary.n_images} images ({counts or none}), {summary.n_faces} faces, "
        f"{decimal(summary.bytes_read)} in {summary.seconds:.1f} s, "
        f"{summary.images_per_second:.1f} images/s; {scanned_by}"
    )
