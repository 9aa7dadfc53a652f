"""What a scan says on standard error: lines and a live count for people, or a JSON log for programs."""

from __future__ import annotations

import logging
import math
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bladescan.base.logs import installed
from bladescan.base.records import ImageRecord
from bladescan.base.text import counted
from bladescan.command.metrics import MetricsFile
from bladescan.command.terminal import ProgressLine, interval_s
from bladescan.outputs.run import RunInfo, RunSummary
from bladescan.outputs.sink import STDOUT_NAMES
from bladescan.scanning.listener import BrokenOff, Listener, Listeners
from bladescan.scanning.tally import Tally

NAMED = 5
"""Unreadable images that are named on a terminal; of a thousand, nobody reads the names there."""
_logger = logging.getLogger(__name__)


def command_listener(
    output: str | None, metrics: Path | None, progress: ProgressLine, *, verbose: bool
) -> Listener:
    """Make what listens to the command's scan.

    Args:
        output: the file that verdicts go to, None for standard output.
        metrics: file for Prometheus, None for none.
        progress: shows how far the scan is, where that is wanted.
        verbose: name every unreadable image, also on a terminal.

    Raises:
        UsageError, OutputError: the file for metrics cannot be used.
    """
    handler = installed()
    file = None if output in STDOUT_NAMES else output
    talking = (
        JsonLog(file)
        if handler is not None and handler.settings.json
        else Terminal(file, progress, verbose=verbose)
    )
    return talking if metrics is None else Listeners(talking, MetricsFile(metrics))


class Terminal(Listener):
    """Lines for people, below them a live count where standard error is a terminal.

    There, only the first few unreadable images are named; the summary counts them all.

    Args:
        output: the file that verdicts go to, None for standard output.
        progress: shows how far the scan is.
        verbose: name every unreadable image.
    """

    def __init__(self, output: str | None, progress: ProgressLine, *, verbose: bool) -> None:
        self._output = output
        self._measured = ""
        self._is_table = output is None and sys.stdout.isatty()
        self._progress = progress
        self._n_to_name = math.inf if verbose or not sys.stderr.isatty() else NAMED

    def began(self, run: RunInfo, tally: Tally) -> None:
        """Start the count."""
        self._measured = run.measured
        self._progress.follow(lambda: tally.n_done)
        self._progress.__enter__()

    def seen(self, record: ImageRecord) -> None:
        """Name an image that could not be read, unless many were."""
        if record.reason is None or self._is_table:  # a table says it itself
            return
        if self._n_to_name > 0:
            _say_unreadable(record)
        elif self._n_to_name == 0:
            _logger.info("more unreadable files are only counted; --verbose names each")
        self._n_to_name -= 1

    def scanned(self) -> None:
        """End the count."""
        self._progress.__exit__(None, None, None)

    def broken_off(self, how: BrokenOff) -> None:
        """Say why, and what was kept."""
        _say_broken_off(how, {})

    def ended(self, summary: RunSummary, scanned_by: str) -> None:
        """Sum up."""
        self.scanned()
        _logger.info("%s", _line(summary, scanned_by))
        if self._measured:
            _logger.info("false alarms: %s", self._measured)
        if summary.n_unchanged:
            _logger.info("unchanged since an earlier scan: %d", summary.n_unchanged)
        declared = ", ".join(f"{n} {word}" for word, n in summary.declared.items() if n and word != "none")
        if declared:
            _logger.info("declared by the files themselves: %s", declared)
        if summary.reasons:
            _logger.info("%s", _unreadable(summary.reasons))
        if self._output is not None and summary.complete:
            _logger.info("verdicts: %s", self._output)

    def closed(self, summary: RunSummary, run: RunInfo | None) -> None:
        """End the count, however the scan ended."""
        self.scanned()


class JsonLog(Listener):
    """Events for a log collector, among them now and then how far the scan is.

    That is said by a clock of its own, so that a scan that hangs still shows.

    Args:
        output: the file that verdicts go to, None for standard output.
    """

    def __init__(self, output: str | None) -> None:
        self._output = output
        self._tally = Tally()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    def began(self, run: RunInfo, tally: Tally) -> None:
        """Say what scans, and start the clock."""
        self._tally = tally
        _logger.info("scanning with %s", run.detector, extra={"event": "start", "fields": asdict(run)})
        self._thread.start()

    def seen(self, record: ImageRecord) -> None:
        """Name an image that could not be read."""
        _say_unreadable(record)

    def broken_off(self, how: BrokenOff) -> None:
        """Say why, what was kept, and how far the scan came."""
        _say_broken_off(how, self._facts())

    def ended(self, summary: RunSummary, scanned_by: str) -> None:
        """Sum up."""
        self._stop()
        fields = asdict(summary) | {"output": self._output}
        _logger.info("%s", _line(summary, scanned_by), extra={"event": "summary", "fields": fields})

    def closed(self, summary: RunSummary, run: RunInfo | None) -> None:
        """Stop the clock, however the scan ended."""
        self._stop()

    def _stop(self) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()

    def _beat(self) -> None:
        while not self._done.wait(interval_s()):
            _logger.info("scanning", extra={"event": "progress", "fields": self._facts()})

    def _facts(self) -> dict[str, Any]:
        summary = asdict(self._tally.summary())
        keys = (
            "n_images",
            "n_other_files",
            "n_faces",
            "n_pictures",
            "verdicts",
            "seconds",
            "images_per_second",
            "bytes_read",
        )
        return {key: summary[key] for key in keys}


def _say_unreadable(record: ImageRecord) -> None:
    if record.reason is None:
        return
    why = record.reason.value + (f": {record.detail}" if record.detail else "")
    fields = {"reason": record.reason.value, "detail": record.detail}
    extra = {"event": "unreadable", "source": record.source, "fields": fields}
    _logger.warning("%s", why, extra=extra)


def _unreadable(reasons: dict[str, int]) -> str:
    """Write how many could not be read, and why, the most frequent first."""
    by_number = sorted(reasons.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{reason} {n:,}" for reason, n in by_number)
    return f"{sum(reasons.values()):,} unreadable: {listed}"


def _say_broken_off(how: BrokenOff, facts: dict[str, Any]) -> None:
    what = f"; kept {how.kept}" if how.kept else ""
    what += "; the same command with --resume continues" if how.resumable else ""
    fields = facts | {"exit_code": how.exit_code, "kept": how.kept, "resumable": how.resumable}
    _logger.error("%s%s", how.why, what, extra={"event": how.event, "fields": fields})


def _judged(summary: RunSummary) -> str:
    """Count the faces, the whole pictures, or both."""
    pictures = counted(summary.n_pictures, "whole picture")
    faces = counted(summary.n_faces, "face")
    if not summary.n_pictures:
        return faces
    return f"{faces}, {pictures}" if summary.n_faces else pictures


def _line(summary: RunSummary, scanned_by: str) -> str:
    from rich.filesize import decimal

    counts = ", ".join(f"{n} {verdict}" for verdict, n in summary.verdicts.items() if n)
    none = "nothing new" if summary.n_unchanged else "nothing to scan"
    others = f", {counted(summary.n_other_files, 'other file')}" if summary.n_other_files else ""
    n_decided = sum(summary.decisions.values())
    decided = f" ({n_decided} decided earlier)" if n_decided else ""
    return (
        f"{counted(summary.n_images, 'image')} ({counts or none}){others}, "
        f"{_judged(summary)}{decided}, {decimal(summary.bytes_read)} in {summary.seconds:.1f} s, "
        f"{summary.images_per_second:.1f} images/s; {scanned_by}"
    )
