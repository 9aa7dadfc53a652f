"""What stands between a command and its shell: signals, closed streams, errors as one line, exit codes."""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
import signal
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

import typer

from bladescan.base.errors import BladescanError
from bladescan.base.exit_codes import ExitCode
from bladescan.base.interrupts import Interrupted
from bladescan.base.logs import LogSettings, install, installed
from bladescan.base.text import printable, without_password

_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
AGAIN_S = 1.0
"""How long after a signal a command that has not begun to end is told again."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_F = TypeVar("_F", bound=Callable[..., Any])
_logger = logging.getLogger(__name__)
_caught: list[int] = []
_closed: set[int] = set()
_json_lines: set[int] = set()
_first: list[tuple[int, str]] = []


def is_closed(descriptor: int) -> bool:
    """Tell whether a standard stream was closed when the command started."""
    return descriptor in _closed


def prepare_streams() -> None:
    """Make sure that descriptors 0 to 2 are ours, and that names which are not UTF-8 can be printed.

    A command that is started with one of them closed would open its first file in its place.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            _closed.add(descriptor)
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
            os.set_inheritable(descriptor, True)  # as a standard stream is
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def guarded(command: _F) -> _F:
    """Turn whatever leaves a command into one line and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        debug = bool(kwargs.get("debug"))
        quiet = bool(kwargs.get("quiet"))
        install(LogSettings.of(kwargs.get("log_format"), kwargs.get("log_paths"), quiet=quiet, debug=debug))
        while _first:
            _logger.log(*_first.pop(0))
        try:
            with _signals_raise():
                result = command(*args, **kwargs)
                sys.stdout.flush()  # now, for at its end the interpreter has no good word for a full disk
                return result
        except BaseException as exc:
            _leave(exc, debug)

    return run  # type: ignore[return-value]


def say_first(message: str, *, is_warning: bool = False) -> None:
    """Keep a message until the command runs, and with it is known how messages are to be written."""
    _first.append((logging.WARNING if is_warning else logging.INFO, message))


def _leave(exc: BaseException, debug: bool) -> NoReturn:
    if _caught:
        # Also when the signal came out as something else: an import that it broke off is an ImportError.
        interrupted = Interrupted(_caught[0])
        _say_interrupted(interrupted)
        raise typer.Exit(interrupted.exit_code) from None
    if isinstance(exc, BrokenPipeError):
        # Whoever read us has enough. Python would complain once more when it flushes at exit.
        _give_up_stdout()
        raise typer.Exit(ExitCode.CLEAN) from None
    if isinstance(exc, BladescanError):
        _fail(str(exc), debug)
    if isinstance(exc, OSError) and exc.errno in _FULL:
        _give_up_stdout()
        _fail(f"cannot write {exc.filename or 'standard output'}: {exc.strerror}", debug)
    if isinstance(exc, FileNotFoundError) and not _has_working_directory():
        _fail("the working directory is gone: change to one that exists, or give absolute paths", debug)
    if room := _lack_of_room(exc):
        _fail(room, debug)
    if not isinstance(exc, Exception) or type(exc).__module__.startswith("typer."):
        raise exc  # a usage error or an exit, which Typer renders
    _fail(f"internal error: {type(exc).__name__}: {exc} (--debug shows where)", debug)


def _lack_of_room(exc: BaseException) -> str:
    """Name what the machine does not allow; ``""`` for other errors."""
    if isinstance(exc, MemoryError):
        return "out of memory: free some, or raise ulimit -v or the container's limit"
    if isinstance(exc, BlockingIOError) or (isinstance(exc, RuntimeError) and "start new thread" in str(exc)):
        return (
            "no more threads or processes are allowed: raise ulimit -u, or the container's limit of processes"
        )
    return ""


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _give_up_stdout() -> None:
    """Send what its buffer still holds nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _fail(message: str, debug: bool) -> NoReturn:
    say_failed(message, _trace() if debug else None)
    raise typer.Exit(ExitCode.FAILED) from None


def say_failed(message: str, trace: str | None = None) -> None:
    """Log that the command could not run."""
    fields = {"exit_code": int(ExitCode.FAILED)} | ({"traceback": trace} if trace else {})
    _logger.error("%s", message, extra={"event": "error", "fields": fields})
    end_json_lines(ExitCode.FAILED, message)


def _say_interrupted(interrupted: Interrupted) -> None:
    """Log it for programs, where the scan has not: people know what they pressed."""
    handler, reason = installed(), f"interrupted by {interrupted}"
    if handler is not None and handler.settings.json and handler.last_event != "interrupted":
        fields = {"exit_code": int(interrupted.exit_code)}
        _logger.error("%s", reason, extra={"event": "interrupted", "fields": fields})
    end_json_lines(interrupted.exit_code, reason)


def expect_json_lines() -> None:
    """Remember that standard output is JSON Lines, whose last record tells of a failure."""
    _json_lines.add(1)


def end_json_lines(code: int, reason: str) -> None:
    """Write the last record of JSON Lines on standard output, if that is what it is, and if it takes more."""
    if not _json_lines:
        return
    record = {"type": "error", "exit_code": int(code), "reason": printable(reason)}
    with suppress(OSError, ValueError):
        sys.stdout.write(json.dumps(record, separators=(",", ":")) + "\n")
        sys.stdout.flush()


def _trace() -> str:
    """Of the current error; libraries put whole URLs into theirs, a server's with its password too."""
    return "\n".join(map(without_password, traceback.format_exc().splitlines()))


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Raise at the first SIGHUP, SIGINT or SIGTERM; later ones must not break the clean-up off.

    One that the caller ignores (nohup, a job in the background) stays ignored.

    Where Python swallows what a handler raises (in a callback of the garbage collector, or under a bare
    ``except``) the exception is gone without having left the command: then it is raised again.
    """
    on_its_way: list[weakref.ref[Interrupted]] = []

    def watched() -> Interrupted:  # never held in a frame of its own traceback, which would keep it alive
        interrupted = Interrupted(_caught[0])
        on_its_way.append(weakref.ref(interrupted))
        return interrupted

    def leave(number: int, _frame: Any) -> None:
        if on_its_way and on_its_way[-1]() is not None:
            return
        if number != signal.SIGALRM:
            _caught.append(number)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
        raise watched()

    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, leave) for number in (*heard, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if _caught else handler)
