"""How far a command is: the bar on a terminal, lines in a pipe, and what stands beside them."""

from __future__ import annotations

import io
import os
import re
import sys
import threading

import pytest
from PIL import Image

from bladescan.base.exit_codes import ExitCode
from bladescan.command.inputs import counter
from bladescan.command.terminal import ProgressLine, duration
from tests.command.terminals import on_terminal, screen

N = 300


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of many small pictures and some files that are none."""
    folder = tmp_path_factory.mktemp("many")
    out = io.BytesIO()
    Image.effect_mandelbrot((64, 64), (-2.0, -1.0, 1.0, 1.0), 50).save(out, "PNG")
    for i in range(N):
        (folder / f"{i:04}.png").write_bytes(out.getvalue())
    for i in range(8):
        (folder / f"z{i}.jpg").write_bytes(b"no image")
    return folder


class Terminal(io.StringIO):
    """What stands in for standard error where it is to be a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def to_tty(monkeypatch):
    """Call it in the test itself: before that, pytest gives standard error back to its capture."""

    def patch():
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return patch


def test_rows_on_a_terminal_are_never_behind_the_bar(many):
    code, written = on_terminal("scan", many, "--faces", "none", "--format", "csv", "--batch-size", "1")
    assert code in (ExitCode.INCOMPLETE, ExitCode.FLAGGED_AND_INCOMPLETE)
    lines = screen(written)
    assert re.search(r"scanning .*/308", written)
    rows = [line for line in lines if line.startswith(f"{many}/") and line.count(",") > 20]
    names = [os.path.basename(row.partition(",")[0]) for row in rows]
    assert names == sorted(os.listdir(many))
    assert not [line for line in lines if "scanning" in line or "/308" in line]


def test_the_bar_knows_the_total_and_the_rest_when_the_list_is_known(many, tmp_path):
    code, written = on_terminal("scan", many, "--faces", "none", "-o", tmp_path / "v.csv")
    assert code in (ExitCode.INCOMPLETE, ExitCode.FLAGGED_AND_INCOMPLETE)
    assert re.search(r"/308\b.*left", re.sub(r"\x1b\[[0-9;]*m", "", written))
    assert not [line for line in screen(written) if "/308" in line]


def test_unreadable_files_are_collapsed_on_a_terminal_unless_verbose(many, tmp_path, bladescan):
    arguments = ("scan", many, "--faces", "none", "--include", "z*", "-o", tmp_path / "v.csv")
    few = [line for line in screen(on_terminal(*arguments)[1]) if line]
    assert [line.partition(":")[0] for line in few[:5]] == [f"{many}/z{i}.jpg" for i in range(5)]
    assert few[5] == "more unreadable files are only counted; --verbose names each"
    assert "8 unreadable: not-an-image 8" in few
    for all_of_them in (
        "\n".join(screen(on_terminal(*arguments, "--verbose")[1])),
        bladescan(*arguments).stderr.decode(),
    ):
        named = re.findall(r"^\S+/(z\d\.jpg): not-an-image", all_of_them, re.MULTILINE)
        assert named == [f"z{i}.jpg" for i in range(8)]


def test_quiet_and_verbose_exclude_each_other(in_process, many):
    done = in_process("scan", many, "-q", "-v")
    assert done.exit_code == ExitCode.FAILED and "exclude each other" in done.stderr


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "40"}])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(samples, env):
    code, written = on_terminal("scan", samples, env=env)
    assert code == ExitCode.INCOMPLETE and "\x1b" not in written and "portrait.jpg" in written


def test_a_narrow_terminal_has_a_bar_of_one_line(many, tmp_path):
    env = {"COLUMNS": "40"}
    _, written = on_terminal("scan", many, "--faces", "none", "-o", tmp_path / "v.csv", env=env)
    assert "scanning" in written
    assert not [line for line in screen(written) if "scanning" in line or "/308" in line]


def test_what_has_begun_is_not_delayed_by_counting(to_tty):
    on_tty = to_tty()
    begun, counted = threading.Event(), threading.Event()

    def count(is_wanted):
        assert begun.is_set()
        counted.set()
        return 7

    with ProgressLine("looking", count=count) as line:
        assert not counted.wait(1)
        begun.set()
        line.advance()
        assert counted.wait(10)
        line.advance(6)
        while "7/7" not in on_tty.getvalue():
            threading.Event().wait(0.05)
    assert not any("looking" in shown for shown in screen(on_tty.getvalue()))


def test_a_count_that_nobody_wants_any_more_ends(to_tty):
    to_tty()
    begun, ended = threading.Event(), threading.Event()

    def count(is_wanted):
        begun.set()
        while is_wanted():
            ended.wait(0.01)
        ended.set()
        return None

    with ProgressLine("looking", count=count) as line:
        line.advance()
        assert begun.wait(10)
    assert ended.wait(10)


def test_a_terminal_that_is_gone_ends_no_work(to_tty):
    on_tty = to_tty()
    with ProgressLine("looking") as line:
        line.advance()
        on_tty.close()
        threading.Event().wait(1)


def test_a_pipe_gets_a_line_now_and_then(monkeypatch):
    monkeypatch.setenv("BLADESCAN_LOG_INTERVAL_S", "0.1")
    said = []
    monkeypatch.setattr("bladescan.command.terminal._logger.info", lambda *a, **k: said.append(a[1]))
    with ProgressLine("embedding", count=lambda is_wanted: 12) as line:
        line.advance(3)
        while not any("of 12" in one for one in said):
            threading.Event().wait(0.02)
        line.set("classifier", 5, 50)
        while not any("classifier" in one for one in said):
            threading.Event().wait(0.02)
    assert any(re.fullmatch(r"embedding: 3 of 12, about \d+ (s|min) left", one) for one in said)
    assert any(re.fullmatch(r"classifier: 5 of 50, about \d+ s left", one) for one in said)


def test_a_quiet_command_says_nothing_of_its_progress(monkeypatch, to_tty):
    on_tty = to_tty()
    monkeypatch.setenv("BLADESCAN_LOG_INTERVAL_S", "0.1")
    with ProgressLine("embedding", quiet=True) as line:
        line.advance()
        threading.Event().wait(0.5)
    assert on_tty.getvalue() == ""


@pytest.mark.parametrize("seconds,words", [(3.4, "3 s"), (89, "89 s"), (100, "2 min"), (11100, "3 h 5 min")])
def test_a_duration_is_written_as_people_do(seconds, words):
    assert duration(seconds) == words


def test_all_that_several_options_name_is_counted(many, samples):
    assert counter([str(many)], None, [str(samples)])(lambda: True) == N + 8 + 5
    assert counter([str(many)], ["-"])(lambda: True) is None
    assert counter(None)(lambda: True) is None
