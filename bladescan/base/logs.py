"""What a line on standard error is made of: text for people, or one JSON object for a log collector.

Format and paths are kept in environment variables, so that worker processes, which inherit them, write the
same way, and commands without the options can be told too.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

FORMAT_VARIABLE = "BLADESCAN_LOG_FORMAT"
PATHS_VARIABLE = "BLADESCAN_LOG_PATHS"
KEY_VARIABLE = "BLADESCAN_LOG_KEY"
QUIET_VARIABLE = "BLADESCAN_QUIET"
INTERVAL_VARIABLE = "BLADESCAN_LOG_INTERVAL_S"
INTERVAL_S = 30.0

_PASSWORD = re.compile(r"(?<=://)[^/?#@:]*:[^/?#]*@")

LogFormat = Literal["text", "json"]
LogPaths = Literal["plain", "hashed"]


def configure(log_format: LogFormat | None, log_paths: LogPaths | None) -> None:
    """Take what the options say; None leaves it to the environment.

    In JSON, what other libraries log or warn of becomes JSON as well.
    """
    for variable, value in ((FORMAT_VARIABLE, log_format), (PATHS_VARIABLE, log_paths)):
        if value is not None:
            os.environ[variable] = value
    if wants_json():
        _take_over_logging()


def configure_from(arguments: Sequence[str]) -> None:
    """Look for ``--log-format`` before the options are parsed, for the errors of parsing itself."""
    for option, value in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, attached = option.partition("=")
        chosen = attached if equals else value
        if name == "--log-format" and chosen in ("text", "json"):
            os.environ[FORMAT_VARIABLE] = chosen


def put(line: str) -> None:
    """Write a line to standard error; nothing if nobody reads it any more, for that must not end a scan."""
    with nobody_need_read():
        # One write, line end included: lines of several processes do not run into each other.
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


@contextmanager
def nobody_need_read() -> Iterator[None]:
    """Go on in silence when standard error is closed."""
    try:
        yield
    except (OSError, ValueError):
        sys.stderr = open(os.devnull, "w")


def wants_json() -> bool:
    """Whether every line is to be a JSON object."""
    return os.environ.get(FORMAT_VARIABLE) == "json"


def interval_s() -> float:
    """Seconds between two progress events."""
    try:
        asked = float(os.environ.get(INTERVAL_VARIABLE, INTERVAL_S))
    except ValueError:
        return INTERVAL_S
    return INTERVAL_S if math.isnan(asked) else min(max(0.1, asked), 86400.0)  # no clock waits for ever


def without_password(url: str) -> str:
    """The URL, or any line, with ``***`` for a user and password in it."""
    return _PASSWORD.sub("***@", url)


def shown(source: str) -> str:
    """A source's name as a text line shows it: the name itself, or its hash where paths are hashed."""
    if not _hashes_paths():
        return source
    name, digest = _digest(source)
    return f"{name.removeprefix('source_').replace('_', '-')}:{digest}"


def source_fields(source: str) -> dict[str, str]:
    """A source's name as a JSON line holds it."""
    return dict([_digest(source)]) if _hashes_paths() else {"source": source}


def encode(level: str, event: str, message: str, fields: dict[str, Any]) -> str:
    """One JSON object without a line end.

    Everything outside ASCII is escaped, so that no name can steer a terminal or break a line.
    """
    import json
    from datetime import UTC, datetime

    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"ts": now, "level": level, "event": event, "message": message} | fields
    return json.dumps(line, default=str)


def _hashes_paths() -> bool:
    # A word that is neither hashes: better a name too few than one too many.
    return (os.environ.get(PATHS_VARIABLE) or ("hashed" if wants_json() else "plain")) != "plain"


def _digest(source: str) -> tuple[str, str]:
    """SHA-256 of the name's bytes; with a key its HMAC, which nobody can guess names against without it."""
    name, key = os.fsencode(source), os.environ.get(KEY_VARIABLE)
    if key:
        return "source_hmac_sha256", hmac.new(os.fsencode(key), name, hashlib.sha256).hexdigest()
    return "source_sha256", hashlib.sha256(name).hexdigest()


@functools.cache
def _take_over_logging() -> None:
    import logging

    class Foreign(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = " ".join(record.getMessage().split())
            put(encode(record.levelname.lower(), "library", text, {"logger": record.name}))

    logging.captureWarnings(True)
    logging.root.addHandler(Foreign(logging.WARNING))
