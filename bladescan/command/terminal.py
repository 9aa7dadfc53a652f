"""What people see on a terminal besides lines: how far the work is."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from bladescan.base.logs import installed

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressLine:
    """A live count on standard error where that is a terminal and its lines are text; silence elsewhere.

    Lines that are logged while it runs appear above it.
    """

    def __init__(self, title: str, *, total: int | None = None, quiet: bool = False) -> None:
        self._title = title
        self._total = total
        handler = installed()
        wants_json = handler is not None and handler.settings.json
        self._live = sys.stderr.isatty() and not quiet and not wants_json
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._open = ExitStack()

    def advance(self, n: int = 1) -> None:
        """Count ``n`` more."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, n)

    def set(self, title: str, done: int, total: int | None = None) -> None:
        """Show how many of how many are done, under another title."""
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, completed=done, total=total or self._total, description=title or self._title
            )

    def _write_above(self, line: str) -> None:
        assert self._progress is not None
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        if self._live:
            self._progress = _progress()
            self._task = self._progress.add_task(self._title, total=self._total)
            self._open.enter_context(self._progress)
            handler = installed()
            if handler is not None:
                self._open.enter_context(handler.through(self._write_above))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        self._progress = None


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
