"""What a scan tells whoever started it, as it goes. It shows nothing itself.

The command's terminal, its JSON log and its metrics file are listeners; a program may have its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from bladescan.base.records import ImageRecord
from bladescan.outputs.run import RunInfo, RunSummary
from bladescan.scanning.tally import Tally


@dataclass(frozen=True, slots=True)
class BrokenOff:
    """How a scan ended before its end.

    Attributes:
        event: ``interrupted`` by a signal, or ``stopped`` by a limit.
        why: in words.
        kept: the file that holds what was finished, or why nothing does; None on a stream.
        resumable: the same scan can go on where this one ended.
        exit_code: that follows.
    """

    event: str
    why: str
    kept: str | None
    resumable: bool
    exit_code: int


class Listener:
    """Hears of a scan's course; every method does nothing until it is overridden.

    Methods are called from the thread that scans. An exception that one raises ends the scan.
    """

    def began(self, run: RunInfo, tally: Tally) -> None:
        """Hear that the detector is loaded and the output can be written.

        Args:
            run: what scans.
            tally: of the scan; it goes on counting and may be read from any thread.
        """

    def seen(self, record: ImageRecord) -> None:
        """Hear that one image is done: its row is out, or waits for others that must come before it."""

    def scanned(self) -> None:
        """Hear that no more rows come; the output is not complete yet."""

    def broken_off(self, how: BrokenOff) -> None:
        """Hear that the scan is broken off."""

    def ended(self, summary: RunSummary, scanned_by: str) -> None:
        """Hear that the scan came to its end, or was stopped by a limit.

        Args:
            summary: its counts.
            scanned_by: the detector and where it ran, in a few words.
        """

    def closed(self, summary: RunSummary, run: RunInfo | None) -> None:
        """Hear that it is over, however it ended; called last, and once.

        Args:
            summary: its counts, with the exit code that follows.
            run: what scanned; None where the scan failed before that was known.
        """


class Listeners(Listener):
    """Several listeners as one, in order."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def began(self, run: RunInfo, tally: Tally) -> None:
        """Tell all, see `Listener`."""
        for listener in self._listeners:
            listener.began(run, tally)

    def seen(self, record: ImageRecord) -> None:
        """Tell all, see `Listener`."""
        for listener in self._listeners:
            listener.seen(record)

    def scanned(self) -> None:
        """Tell all, see `Listener`."""
        for listener in self._listeners:
            listener.scanned()

    def broken_off(self, how: BrokenOff) -> None:
        """Tell all, see `Listener`."""
        for listener in self._listeners:
            listener.broken_off(how)

    def ended(self, summary: RunSummary, scanned_by: str) -> None:
        """Tell all, see `Listener`."""
        for listener in self._listeners:
            listener.ended(summary, scanned_by)

    def closed(self, summary: RunSummary, run: RunInfo | None) -> None:
        """Tell all, see `Listener`."""
        for listener in self._listeners:
            listener.closed(summary, run)
