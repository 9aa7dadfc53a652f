"""What people see on standard error: progress, warnings, errors. Standard output carries results only."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from bladescan.base.logs import encode, interval_s, nobody_need_read, put, wants_json

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def printable(text: str) -> str:
    """The text on one line without control characters, so that a file's name cannot steer a terminal."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
    return shown.encode("utf-8", "backslashreplace").decode()


def say(text: str, event: str = "note", level: str = "info", **fields: Any) -> None:
    """One line on standard error: the text alone, or all of it as a JSON object.

    Args:
        text: for people; printable or not.
        event: what happened, a word that programs may rely on.
        level: ``info``, ``warning`` or ``error``.
        fields: more of it, JSON form only.
    """
    if wants_json():
        put(encode(level, event, text.removeprefix("bladescan: ").removeprefix("note: "), fields))
    else:
        put(printable(text))


class ProgressLine:
    """A live count on standard error where that is a terminal, silence elsewhere.

    Lines said while it runs appear above it.
    """

    def __init__(self, title: str, *, total: int | None = None, quiet: bool = False) -> None:
        self._title = title
        self._total = total
        self._live = sys.stderr.isatty() and not quiet and not wants_json()
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

    def say(self, text: str, event: str = "note", level: str = "info", **fields: Any) -> None:
        """One line above the count; see `say`."""
        if self._progress is None:
            say(text, event, level, **fields)
        else:
            with nobody_need_read():
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


class Heartbeat:
    """Says now and then how far the work is, where lines are JSON; silence elsewhere.

    By a clock of its own, so that a scan that hangs still shows.

    Args:
        facts: gives the fields of the next line; called from another thread.
        quiet: never say anything.
    """

    def __init__(self, facts: Callable[[], dict[str, Any]], *, quiet: bool = False) -> None:
        self._facts = facts
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._wanted = wants_json() and not quiet

    def __enter__(self) -> Self:
        if self._wanted:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._wanted:
            self._thread.join()

    def _beat(self) -> None:
        while not self._done.wait(interval_s()):
            say("scanning", "progress", **self._facts())


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
