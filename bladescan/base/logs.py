"""What bladescan says on standard error, through the standard library's `logging`.

Every module logs by ``logging.getLogger(__name__)``, below the name ``bladescan``. What programs want to
know goes along as ``extra``: ``event``, a word that they may rely on; ``source``, the name of a scanned file,
shown or hashed; ``fields``, whatever else. The command calls `install`, which turns records into lines of
text or of JSON. A program that uses the library installs handlers of its own instead, or none.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from bladescan.base.text import printable, without_signature

FORMAT_VARIABLE = "BLADESCAN_LOG_FORMAT"
PATHS_VARIABLE = "BLADESCAN_LOG_PATHS"
KEY_VARIABLE = "BLADESCAN_LOG_KEY"
LIBRARY = "library"
"""The event of what other libraries log or warn of."""
_COMMAND = "bladescan: "
_PREFIXES = {"error": _COMMAND, "interrupted": _COMMAND, "stopped": _COMMAND}

LogFormat = Literal["text", "json"]
LogPaths = Literal["plain", "hashed"]


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How records become lines. Crosses processes, so that worker processes write the same way.

    Attributes:
        json: every line is a JSON object.
        hashes_paths: names of scanned files are replaced by their hash.
        level: least level that is written, as `logging` counts them; `logging.DEBUG` also lets native
            libraries print what they like.
    """

    json: bool = False
    hashes_paths: bool = False
    level: int = logging.INFO

    @classmethod
    def of(
        cls,
        log_format: str | None = None,
        log_paths: str | None = None,
        *,
        quiet: bool = False,
        debug: bool = False,
    ) -> LogSettings:
        """Take what the options say; None leaves it to the user's environment variables."""
        wants_json = (log_format or os.environ.get(FORMAT_VARIABLE)) == "json"
        # A word that is neither hashes: better a name too few than one too many.
        paths = log_paths or os.environ.get(PATHS_VARIABLE) or ("hashed" if wants_json else "plain")
        level = logging.DEBUG if debug else logging.ERROR if quiet else logging.INFO
        return cls(wants_json, paths != "plain", level)


class LineHandler(logging.Handler):
    """Writes a line to standard error for each record.

    Nothing happens if nobody reads it any more, for that must not end a scan. ``last_event`` is that of the
    last line.
    """

    def __init__(self, settings: LogSettings) -> None:
        super().__init__(settings.level)
        self.settings = settings
        self.last_event = ""
        self.setFormatter((_JsonLines if settings.json else _TextLines)(settings))
        self._write: Callable[[str], None] = write_line

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record's line."""
        self.last_event = _event(record)
        with closed_stderr_ignored():
            self._write(self.format(record))

    @contextmanager
    def through(self, write: Callable[[str], None]) -> Iterator[None]:
        """Have lines written by another function meanwhile, such as one that writes above a progress bar."""
        self._write, before = write, self._write
        try:
            yield
        finally:
            self._write = before


_installed: LineHandler | None = None


def install(settings: LogSettings) -> LineHandler:
    """Write what bladescan logs to standard error, and only there.

    In JSON, what other libraries log or warn of becomes JSON as well. A later call replaces an earlier one.
    """
    global _installed
    logger = logging.getLogger("bladescan")
    for owner in (logger, logging.root):
        for handler in [h for h in owner.handlers if isinstance(h, LineHandler)]:
            owner.removeHandler(handler)
    _installed = LineHandler(settings)
    logger.addHandler(_installed)
    logger.setLevel(settings.level)
    logger.propagate = False
    if settings.json:
        logging.captureWarnings(True)
        foreign = LineHandler(settings)
        foreign.setLevel(max(settings.level, logging.WARNING))
        logging.root.addHandler(foreign)
    return _installed


def installed() -> LineHandler | None:
    """Return the handler of the last `install`; None where the command does not run."""
    return _installed


def installed_settings() -> LogSettings | None:
    """Return what a worker process needs to write lines as this one does; None leaves it to its defaults."""
    return None if _installed is None else _installed.settings


def wants_debug() -> bool:
    """Tell whether native libraries and workers may print what they like."""
    return logging.getLogger("bladescan").isEnabledFor(logging.DEBUG)


def write_line(line: str) -> None:
    """Write a line to standard error in one piece, so that lines of several processes do not mix."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@contextmanager
def closed_stderr_ignored() -> Iterator[None]:
    """Go on in silence when standard error is closed."""
    try:
        yield
    except (OSError, ValueError):
        sys.stderr = open(os.devnull, "w")


def shown(source: str, settings: LogSettings | None = None) -> str:
    """Return a source's name as a line of text shows it: the name itself, or its hash.

    Args:
        source: the name.
        settings: of the line; without them those that are installed.
    """
    settings = settings or installed_settings()
    hashes = settings is not None and settings.hashes_paths
    return _short_digest(source) if hashes else without_signature(source)


class _TextLines(logging.Formatter):
    """Lines for people."""

    def __init__(self, settings: LogSettings) -> None:
        super().__init__()
        self._settings = settings

    def format(self, record: logging.LogRecord) -> str:
        text, source = record.getMessage(), getattr(record, "source", None)
        if source is not None:
            text = f"{shown(source, self._settings)}: {text}"
        trace = getattr(record, "fields", {}).get("traceback")
        above = f"{trace.rstrip()}\n" if trace else ""
        return above + printable(_prefix(record) + text)


class _JsonLines(logging.Formatter):
    """JSON objects for a log collector.

    Everything outside ASCII is escaped, so that no name can steer a terminal or break a line.
    """

    def __init__(self, settings: LogSettings) -> None:
        super().__init__()
        self._settings = settings

    def format(self, record: logging.LogRecord) -> str:
        import json  # late: most commands write text, and start quickly
        from datetime import UTC, datetime

        line: dict[str, Any] = {
            "ts": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": _event(record),
            "message": " ".join(record.getMessage().split()) if _is_foreign(record) else record.getMessage(),
        }
        if _is_foreign(record):
            line["logger"] = record.name
        source = getattr(record, "source", None)
        if source is not None:
            line |= (
                dict([_digest(source)])
                if self._settings.hashes_paths
                else {"source": without_signature(source)}
            )
        return json.dumps(line | getattr(record, "fields", {}), default=str)


def _is_foreign(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] != "bladescan"


def _event(record: logging.LogRecord) -> str:
    return str(getattr(record, "event", LIBRARY if _is_foreign(record) else "note"))


def _prefix(record: logging.LogRecord) -> str:
    event = _event(record)
    if event in ("note", "retry") and record.levelno >= logging.WARNING:
        return f"{_COMMAND}note: "
    return _PREFIXES.get(event, "")


def _short_digest(source: str) -> str:
    name, digest = _digest(source)
    return f"{name.removeprefix('source_').replace('_', '-')}:{digest}"


def _digest(source: str) -> tuple[str, str]:
    """SHA-256 of the name's bytes; with a key its HMAC, which nobody can guess names against without it."""
    import hashlib
    import hmac

    name, key = os.fsencode(source), os.environ.get(KEY_VARIABLE)
    if key:
        return "source_hmac_sha256", hmac.new(os.fsencode(key), name, hashlib.sha256).hexdigest()
    return "source_sha256", hashlib.sha256(name).hexdigest()
