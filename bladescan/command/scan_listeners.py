"""What a scan says on standard error: lines and a live count for people, or a JSON log for programs."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bladescan.base.logs import installed
from bladescan.base.records import ImageRecord
from bladescan.base.text import counted
from bladescan.command.metrics import MetricsFile
from bladescan.command.terminal import ProgressLine
from bladescan.outputs.run import RunInfo, RunSummary
from bladescan.outputs.sink import STDOUT_NAMES
from bladescan.scanning.listener import BrokenOff, Listener, Listeners
from bladescan.scanning.tally import Tally

INTERVAL_VARIABLE = "BLADESCAN_LOG_INTERVAL_S"
INTERVAL_S = 30.0
_logger = logging.getLogger(__name__)


def command_listener(output: str | None, metrics: Path | None, *, quiet: bool) -> Listener:
    """Make what listens to the command's scan.

    Args:
        output: the file that verdicts go to, None for standard output.
        metrics: file for Prometheus, None for none.
        quiet: no live count.

    Raises:
        UsageError, OutputError: the file for metrics cannot be used.
    """
    handler = installed()
    file = None if output in STDOUT_NAMES else output
    talking = JsonLog(file) if handler is not None and handler.settings.json else Terminal(file, quiet=quiet)
    return talking if metrics is None else Listeners(talking, MetricsFile(metrics))


class Terminal(Listener):
    """Lines for people, below them a live count where standard error is a terminal.

    Args:
        output: the file that verdicts go to, None for standard output.
        quiet: no live count.
    """

    def __init__(self, output: str | None, *, quiet: bool) -> None:
        self._output = output
        self._is_table = output is None and sys.stdout.isatty()
        self._progress = ProgressLine("scanning", quiet=quiet)

    def began(self, run: RunInfo, tally: Tally) -> None:
        """Start the count."""
        self._progress.__enter__()

    def seen(self, record: ImageRecord) -> None:
        """Count an image; name it if it could not be read."""
        self._progress.advance()
        if not self._is_table:  # which says it itself
            _say_unreadable(record)

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
        if summary.n_unchanged:
            _logger.info("unchanged since an earlier scan: %d", summary.n_unchanged)
        declared = ", ".join(f"{n} {word}" for word, n in summary.declared.items() if n and word != "none")
        if declared:
            _logger.info("declared by the files themselves: %s", declared)
        if summary.reasons:
            reasons = ", ".join(f"{n} {reason}" for reason, n in summary.reasons.items())
            _logger.info("unreadable: %s", reasons)
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
            "verdicts",
            "seconds",
            "images_per_second",
            "bytes_read",
        )
        return {key: summary[key] for key in keys}


def interval_s() -> float:
    """Read from the environment how many seconds lie between two progress events."""
    try:
        asked = float(os.environ.get(INTERVAL_VARIABLE, INTERVAL_S))
    except ValueError:
        return INTERVAL_S
    return INTERVAL_S if math.isnan(asked) else min(max(0.1, asked), 86400.0)  # no clock waits for ever


def _say_unreadable(record: ImageRecord) -> None:
    if record.reason is None:
        return
    why = record.reason.value + (f": {record.detail}" if record.detail else "")
    fields = {"reason": record.reason.value, "detail": record.detail}
    extra = {"event": "unreadable", "source": record.source, "fields": fields}
    _logger.warning("%s", why, extra=extra)


def _say_broken_off(how: BrokenOff, facts: dict[str, Any]) -> None:
    what = f"; kept {how.kept}" if how.kept else ""
    what += "; the same command with --resume continues" if how.resumable else ""
    fields = facts | {"exit_code": how.exit_code, "kept": how.kept, "resumable": how.resumable}
    _logger.error("%s%s", how.why, what, extra={"event": how.event, "fields": fields})


def _line(summary: RunSummary, scanned_by: str) -> str:
    from rich.filesize import decimal

    counts = ", ".join(f"{n} {verdict}" for verdict, n in summary.verdicts.items() if n)
    none = "nothing new" if summary.n_unchanged else "nothing to scan"
    others = f", {counted(summary.n_other_files, 'other file')}" if summary.n_other_files else ""
    return (
        f"{counted(summary.n_images, 'image')} ({counts or none}){others}, "
        f"{counted(summary.n_faces, 'face')}, {decimal(summary.bytes_read)} in {summary.seconds:.1f} s, "
        f"{summary.images_per_second:.1f} images/s; {scanned_by}"
    )
