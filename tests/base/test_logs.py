"""Records as lines of text or JSON, in this process and in those that it starts."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys

import pytest

from bladescan.base import logs
from bladescan.base.logs import LogSettings, install


@pytest.fixture
def said(monkeypatch, capsys):
    """Reads what was written to standard error; afterwards logging is as it was."""
    monkeypatch.setattr(logs, "_installed", None)
    logger = logging.getLogger("bladescan")
    before = logger.level, logger.propagate
    yield lambda: capsys.readouterr().err
    for owner in (logger, logging.root):
        owner.handlers = [handler for handler in owner.handlers if not isinstance(handler, logs.LineHandler)]
    logger.level, logger.propagate = before
    logging.captureWarnings(False)


def log(level, message, *args, **extra):
    logging.getLogger("bladescan.somewhere").log(level, message, *args, extra=extra)


def test_a_note_an_error_and_a_result_begin_as_people_know_it(said):
    install(LogSettings())
    log(logging.INFO, "detector: x")
    log(logging.WARNING, "too %s", "few")
    log(logging.ERROR, "no such\nfile", event="error", fields={"exit_code": 2})
    assert said() == "detector: x\nbladescan: note: too few\nbladescan: no such\\nfile\n"


def test_a_source_comes_before_what_is_said_of_it(said):
    install(LogSettings())
    log(logging.WARNING, "empty", event="unreadable", source="a\x1b.jpg")
    log(logging.WARNING, "503; trying again", event="retry", source="s3://b/k")
    assert said() == "a\\x1b.jpg: empty\nbladescan: note: s3://b/k: 503; trying again\n"


def test_paths_in_json_are_there_for_the_asking(said):
    install(LogSettings.of("json", "plain"))
    log(logging.WARNING, "x", event="unreadable", source="a\udcff\n\x1b")
    line = said().removesuffix("\n")
    assert line.isascii() and line.isprintable() and json.loads(line)["source"] == "a\udcff\n\x1b"


@pytest.mark.parametrize("value,is_hashed", [("plain", False), ("", False), ("hash", True), ("hashed", True)])
def test_an_unknown_word_for_paths_hashes_them(said, monkeypatch, value, is_hashed):
    monkeypatch.setenv("BLADESCAN_LOG_PATHS", value)
    install(LogSettings.of())
    log(logging.WARNING, "empty", source="a.jpg")
    assert ("a.jpg" not in said()) == is_hashed
    assert (logs.shown("a.jpg") != "a.jpg") == is_hashed


def test_quiet_lets_errors_through_alone(said):
    install(LogSettings.of(quiet=True))
    log(logging.WARNING, "a note")
    log(logging.ERROR, "an error", event="error")
    assert said() == "bladescan: an error\n"


def test_a_second_call_replaces_the_first(said):
    install(LogSettings.of("json"))
    install(LogSettings())
    log(logging.WARNING, "once")
    assert said() == "bladescan: note: once\n"


def test_lines_go_where_a_progress_bar_wants_them(said):
    above: list[str] = []
    with install(LogSettings()).through(above.append):
        log(logging.INFO, "above")
    log(logging.INFO, "after")
    assert above == ["above"]
    assert said() == "after\n"


def test_a_closed_standard_error_ends_nothing(said, monkeypatch):
    install(LogSettings())
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    log(logging.WARNING, "unheard")
    assert sys.stderr.name == os.devnull
    sys.stderr.close()


def test_the_library_alone_installs_nothing(said):
    log(logging.INFO, "nobody asked")
    assert logs.installed() is None and logs.installed_settings() is None
    assert said() == ""


def test_warnings_of_libraries_are_json_too():
    code = (
        "from bladescan.base.logs import LogSettings, install; import logging, warnings\n"
        "install(LogSettings.of('json'))\n"
        "warnings.warn('a\\nb'); logging.getLogger('dask').error('gone %s', 'wrong')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line["logger"]) for line in said] == [
        ("library", "py.warnings"),
        ("library", "dask"),
    ]
    assert said[1]["message"] == "gone wrong"
