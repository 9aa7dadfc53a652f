"""How far the work is, for people: a live bar on a terminal, and now and then a line in a pipe."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from bladescan.base.logs import installed, write_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

INTERVAL_VARIABLE = "BLADESCAN_LOG_INTERVAL_S"
INTERVAL_S = 30.0
_REFRESH_S = 0.4
_logger = logging.getLogger(__name__)
Count = Callable[[Callable[[], bool]], int | None]
"""Counts all that there is to do while it is wanted; None if nobody can know."""


class ProgressLine:
    """How far a command is: on standard error, as a live bar where that is a terminal.

    Elsewhere, a line every `interval_s` seconds; a JSON log has events in place of lines. Nothing is written
    behind the bar: lines that are logged meanwhile, and rows through `above`, appear above it.

    Args:
        title: of what is done first.
        quiet: show nothing.
        is_lined: also where there is no terminal.
        count: counts what there is to do, beside the work and once that has begun.
    """

    def __init__(
        self, title: str, *, quiet: bool = False, is_lined: bool = True, count: Count | None = None
    ) -> None:
        self._stage = _PartOfWork(title)
        self._count = count
        self._done_now: Callable[[], int] | None = None
        handler = installed()
        wants_json = handler is not None and handler.settings.json
        self._bar = _Bar() if _is_terminal() and not quiet and not wants_json else None
        self._is_lined = is_lined and not quiet
        self._ended = threading.Event()
        self._lock = threading.RLock()
        self._ticker: threading.Thread | None = None
        self._open = ExitStack()

    @property
    def is_live(self) -> bool:
        """Whether there is a bar."""
        return self._bar is not None

    def advance(self, n: int = 1) -> None:
        """Count ``n`` more."""
        self._stage.done += n

    def follow(self, done: Callable[[], int]) -> None:
        """Ask a function how much is done, in place of being told."""
        self._done_now = done

    def set(self, title: str, done: int, total: int | None = None) -> None:
        """Say how many of how many are done: of another stage, if it goes back or the total is another."""
        if done < self._stage.done or (total and total != self._stage.total):
            self._stage = _PartOfWork(title)
        stage = self._stage
        stage.title, stage.done, stage.total = title or stage.title, done, total or stage.total

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the bar away while something else is written to the terminal; it comes back by itself."""
        with self._lock:
            if self._bar is not None:
                self._bar.hide()
            yield

    def above(self, stream: BinaryIO) -> BinaryIO:
        """Wrap a stream, which may be the same terminal, so that what it gets stays above the bar."""
        if self._bar is None or not stream.isatty():
            return stream
        return cast("BinaryIO", _StreamAbove(stream, self))

    def _write_above(self, line: str) -> None:
        with self.hidden():
            write_line(line)

    def __enter__(self) -> Self:
        handler = installed()
        if self._bar is not None and handler is not None:
            self._open.enter_context(handler.through(self._write_above))
        if self._bar is not None or self._is_lined:
            self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
            self._ticker.start()
            if self._count is not None:  # nobody waits for its end: it may be deep in a folder of a million
                threading.Thread(target=self._count_all, name="counting", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._ticker is not None:
            self._ticker.join()
        with self.hidden():
            self._open.close()

    def _tick(self) -> None:
        while not self._ended.wait(interval_s() if self._bar is None else _REFRESH_S):
            stage = self._stage
            if self._done_now is not None:
                stage.done = self._done_now()
            with self._lock:
                if self._ended.is_set():
                    return
                if self._bar is None:
                    self._say(stage)
                elif not self._bar.show(stage):
                    return

    def _say(self, stage: _PartOfWork) -> None:
        fields = {"stage": stage.title, "done": stage.done, "total": stage.total, "left_s": stage.left_s()}
        _logger.info("%s", stage.line(), extra={"event": "progress", "fields": fields})

    def _count_all(self) -> None:
        """Count once something is done: the first result is worth more than a total."""
        stage = self._stage
        while not stage.done:
            if self._ended.wait(_REFRESH_S):
                return
        assert self._count is not None
        stage.total = self._count(lambda: not self._ended.is_set())


class _PartOfWork:
    """One part of the work: how much is done of how much, since when."""

    def __init__(self, title: str) -> None:
        self.title, self.done, self.total = title, 0, None
        self._began = time.monotonic()

    total: int | None

    def left_s(self) -> float | None:
        """Guess the seconds to its end from the speed so far."""
        if not self.total or not self.done:
            return None
        spent = time.monotonic() - self._began
        return round(max(0, self.total - self.done) * spent / self.done, 1)

    def line(self) -> str:
        """Say it in words."""
        left = self.left_s()
        of = f" of {self.total:,}" if self.total else ""
        return f"{self.title}: {self.done:,}{of}" + (f", about {duration(left)} left" if left else "")


class _Bar:
    """The live bar of Rich, shown and hidden as one line."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._stage: _PartOfWork | None = None

    def show(self, stage: _PartOfWork) -> bool:
        """Draw it; False if the terminal is gone."""
        try:
            if self._progress is None:
                self._progress = _progress()
            if stage is not self._stage:
                if self._task is not None:
                    self._progress.remove_task(self._task)
                self._task, self._stage = self._progress.add_task(stage.title, total=stage.total), stage
            assert self._task is not None
            self._progress.update(
                self._task, description=stage.title, completed=stage.done, total=stage.total
            )
            self._progress.start()
            self._progress.refresh()
        except (OSError, ValueError):
            return False
        return True

    def hide(self) -> None:
        """Take it off the screen."""
        if self._progress is not None:
            try:
                self._progress.stop()
            except (OSError, ValueError):
                self._progress = None


class _StreamAbove:
    """A stream to the terminal that has the bar: each write takes the bar away first."""

    def __init__(self, stream: BinaryIO, line: ProgressLine) -> None:
        self._stream, self._line = stream, line

    def write(self, data: bytes) -> int:
        with self._line.hidden():
            n = self._stream.write(data)
            self._stream.flush()
        return n

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return True


def interval_s() -> float:
    """Read from the environment how many seconds lie between two lines of progress."""
    try:
        asked = float(os.environ.get(INTERVAL_VARIABLE, INTERVAL_S))
    except ValueError:
        return INTERVAL_S
    return INTERVAL_S if math.isnan(asked) else min(max(0.1, asked), 86400.0)  # no clock waits for ever


def duration(seconds: float) -> str:
    """Write a duration as people do: ``40 s``, ``12 min``, ``3 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _is_terminal() -> bool:
    """Tell whether standard error is a terminal on which a line can be drawn again."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
