"""What people see on standard error: progress, warnings, errors. Standard output carries results only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def printable(text: str) -> str:
    """The text on one line without control characters, so that a file's name cannot steer a terminal."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
    return shown.encode("utf-8", "backslashreplace").decode()


def say(text: str) -> None:
    """One line on standard error; nothing if nobody reads it any more, for that must not end a scan."""
    with _nobody_need_read():
        print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def _nobody_need_read() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError):
        sys.stderr = open(os.devnull, "w")


class ProgressLine:
    """A live count on standard error where that is a terminal, silence elsewhere.

    Lines said while it runs appear above it.
    """

    def __init__(self, title: str, *, total: int | None = None, quiet: bool = False) -> None:
        self._title = title
        self._total = total
        self._live = sys.stderr.isatty() and not quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def advance(self, n: int = 1) -> None:
        """``n`` more are done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, n)

    def set(self, done: int, total: int | None = None, title: str | None = None) -> None:
        """So many are done, of so many."""
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, completed=done, total=total or self._total, description=title or self._title
            )

    def say(self, text: str) -> None:
        """One line above the count."""
        if self._progress is None:
            say(text)
        else:
            with _nobody_need_read():
                self._progress.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        if self._live:
            self._progress = _progress()
            self._task = self._progress.add_task(self._title, total=self._total)
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
