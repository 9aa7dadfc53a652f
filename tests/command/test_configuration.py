"""Options from a file and from the environment, in the real command."""

from __future__ import annotations

import csv
import io
import json
import os
import tomllib

import pytest
from typer.main import get_command

from bladescan.base.exit_codes import ExitCode
from bladescan.command.app import app
from bladescan.command.option_names import commands, options, variable


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder, and a user's folder for configuration beside it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith(("BLADESCAN_SCAN", "BLADESCAN_CONFIG"))]:
        monkeypatch.delenv(name)
    (tmp_path / "home" / "bladescan").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def whence(in_process, *arguments):
    """What holds for scan, as ``bladescan config`` tells it: value and where it comes from, by option."""
    done = in_process("config", "scan", "--json", *arguments)
    assert done.exit_code == ExitCode.CLEAN, done.stderr
    return {one["option"]: (one["value"], one["whence"]) for one in json.loads(done.stdout)["options"]}


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(bladescan, here, samples):
    (here / "bladescan.toml").write_text('[scan]\nfail-on = "none"\nformat = "jsonl"\n')
    cut = samples / "cut-off.jpg"
    by_file = bladescan("scan", cut, cwd=here)
    assert by_file.returncode == ExitCode.CLEAN
    assert json.loads(by_file.stdout.splitlines()[-1])["type"] == "summary"
    assert b"options from bladescan.toml: fail-on, format\n" in by_file.stderr
    environment = {"BLADESCAN_SCAN_FAIL_ON": "unreadable", "BLADESCAN_SCAN_FORMAT": "json"}
    by_variable = bladescan("scan", cut, cwd=here, env=environment)
    assert by_variable.returncode == ExitCode.INCOMPLETE and json.loads(by_variable.stdout)["images"]
    given = bladescan("scan", cut, "--fail-on", "none", "--format", "csv", cwd=here, env=environment)
    assert given.returncode == ExitCode.CLEAN
    assert [row["path"] for row in csv.DictReader(io.StringIO(given.stdout.decode()))] == [str(cut)]
    without = bladescan("scan", cut, "--no-config", cwd=here)
    assert without.returncode == ExitCode.INCOMPLETE and b"options from" not in without.stderr


def test_one_file_holds_the_one_named_then_the_one_here_then_the_users(in_process, here, monkeypatch):
    user = here.parent / "home" / "bladescan" / "bladescan.toml"
    user.write_text("[scan]\nmin-face = 10\nquiet = true\n")
    assert whence(in_process) == {"min-face": (10, str(user)), "quiet": (True, str(user))}
    (here / "bladescan.toml").write_text("[scan]\nmin-face = 20\n")
    assert whence(in_process) == {"min-face": (20, "bladescan.toml")}
    (here / "third.toml").write_text("[scan]\nmin-face = 30\n")
    monkeypatch.setenv("BLADESCAN_CONFIG", "third.toml")
    assert whence(in_process) == {"min-face": (30, "third.toml")}
    (here / "fourth.toml").write_text("[scan]\nmin-face = 40\n")
    assert whence(in_process, "--config", "fourth.toml") == {"min-face": (40, "fourth.toml")}
    assert whence(in_process, "--no-config") == {}
    monkeypatch.delenv("BLADESCAN_CONFIG")
    monkeypatch.setenv("BLADESCAN_NO_CONFIG", "1")
    assert whence(in_process) == {}


def test_the_options_of_the_file_stand_before_the_command_too(in_process, here):
    (here / "mine.toml").write_text("[scan]\nmin-face = 20\n")
    done = in_process("--config", "mine.toml", "config", "scan")
    assert "min-face = 20  # mine.toml" in done.stdout


def test_a_switch_that_the_file_turns_on_is_turned_off_by_its_variable(in_process, here, monkeypatch):
    (here / "bladescan.toml").write_text('[scan]\nhidden = true\ninclude = ["*.gif", "a b"]\n')
    monkeypatch.setenv("BLADESCAN_SCAN_HIDDEN", "0")
    found = whence(in_process)
    assert found["hidden"] == (False, "BLADESCAN_SCAN_HIDDEN")
    assert found["include"] == (["*.gif", "a b"], "bladescan.toml")
    monkeypatch.setenv("BLADESCAN_SCAN_INCLUDE", "*.jpg *.png")
    assert whence(in_process)["include"] == (["*.jpg", "*.png"], "BLADESCAN_SCAN_INCLUDE")


MISTAKES = {
    '[scan]\nfial-on = "none"\n': "unknown key 'fial-on' in [scan]: did you mean 'fail-on'?",
    '[scan]\nfail_on = "none"\n': "unknown key 'fail_on' in [scan]: did you mean 'fail-on'?",
    "[scan]\nzzz = 1\n": "unknown key 'zzz' in [scan]: `bladescan scan -h` lists the options",
    "[scna]\nhidden = true\n": "unknown table [scna]: did you mean 'scan'?",
    "[ledger.count]\njson = true\n": "unknown table [ledger.count]: did you mean 'counts'?",
    "hidden = true\n": "'hidden': options stand below their command, as [scan]",
    "[scan]\nhidden = 1\n": "[scan] hidden = 1: expected true or false",
    "[scan]\nmin-face = true\n": "[scan] min-face = True: expected a text or a number",
    '[scan]\nfaces = ["yunet"]\n': "[scan] faces = ['yunet']: expected a text or a number",
    "[scan]\ninclude = [[1]]\n": "[scan] include = [[1]]: expected a list of texts",
    "[scan]\nmin-face = 0\n": "[scan] min-face = '0': ",
    '[scan]\nworkers = "many"\n': "[scan] workers = 'many': ",
    "[scan]\nconfig = 'x'\n": "unknown key 'config' in [scan]: ",
    "[scan\n": "not TOML: ",
    "[fit]\nhidden = true\n": "unknown key 'hidden' in [fit]: ",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_the_file_is_one_line_that_names_it(in_process, here, samples, text):
    (here / "bladescan.toml").write_text(text)
    done = in_process("scan", samples / "no-face.webp")
    assert done.exit_code == ExitCode.FAILED and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"bladescan: bladescan.toml: {MISTAKES[text]}")
    assert in_process("scan", "-h").exit_code == in_process("--version").exit_code == ExitCode.CLEAN


@pytest.mark.parametrize("data", [b"\xff", b"[scan]\nmodel = '\xff'\n"])
def test_a_file_that_is_not_utf8_is_said(in_process, here, data):
    (here / "bladescan.toml").write_bytes(data)
    done = in_process("scan", ".")
    assert done.exit_code == ExitCode.FAILED and "bladescan.toml: not TOML" in done.stderr


def test_a_named_file_that_cannot_be_read_is_said(in_process, here):
    for options_, said in (
        (["--config", "gone.toml"], "gone.toml: cannot be read: No such file"),
        (["--config", "."], ".: cannot be read: Is a directory"),
        (["--config", "x.toml", "--no-config"], "--config and --no-config exclude each other"),
    ):
        done = in_process("scan", ".", *options_)
        assert done.exit_code == ExitCode.FAILED and said in done.stderr


@pytest.mark.parametrize("whose", ["anybody may write it", "belongs to another user"])
def test_a_strangers_file_in_the_working_folder_is_not_trusted(in_process, here, samples, whose):
    path = here / "bladescan.toml"
    path.write_text('[scan]\nfail-on = "none"\n')
    if whose == "anybody may write it":
        path.chmod(0o666)
    elif os.geteuid() == 0:
        os.chown(path, 4242, -1)
    else:
        pytest.skip("only root can give a file away")
    done = in_process("scan", samples / "cut-off.jpg")
    assert done.exit_code == ExitCode.FAILED and whose in done.stderr
    named = in_process("scan", samples / "cut-off.jpg", "--config", path)
    assert named.exit_code == ExitCode.CLEAN
    assert in_process("scan", samples / "cut-off.jpg", "--no-config").exit_code == ExitCode.INCOMPLETE


def test_a_value_of_a_variable_that_is_none_names_the_variable(in_process, here, monkeypatch):
    monkeypatch.setenv("BLADESCAN_SCAN_MIN_FACE", "0")
    for arguments in (["scan", "."], ["config", "scan"]):
        done = in_process(*arguments)
        assert done.exit_code == ExitCode.FAILED and "BLADESCAN_SCAN_MIN_FACE" in done.stderr


def test_a_misspelt_variable_gets_a_note(bladescan, here, samples):
    done = bladescan("scan", samples / "no-face.webp", env={"BLADESCAN_SCAN_FIAL_ON": "none"}, cwd=here)
    assert done.returncode == ExitCode.CLEAN
    said = "bladescan: note: BLADESCAN_SCAN_FIAL_ON is no option: did you mean BLADESCAN_SCAN_FAIL_ON?\n"
    assert said in done.stderr.decode()


def test_json_that_the_file_asks_for_holds_for_usage_errors_too(bladescan, here):
    (here / "bladescan.toml").write_text('[scan]\nlog-format = "json"\nformat = "jsonl"\n')
    done = bladescan("scan", "--nonsense", cwd=here)
    assert done.returncode == ExitCode.FAILED
    (said,) = map(json.loads, done.stderr.splitlines())
    (last,) = map(json.loads, done.stdout.splitlines())
    assert said["exit_code"] == last["exit_code"] == ExitCode.FAILED
    text = bladescan("scan", "--nonsense", cwd=here, env={"BLADESCAN_LOG_FORMAT": "text"})
    assert b"No such option: --nonsense" in text.stderr and b"{" not in text.stderr


def test_the_names_of_a_json_log_may_be_hashed_by_the_file(bladescan, here, samples):
    (here / "bladescan.toml").write_text('[scan]\nlog-paths = "hashed"\n')
    done = bladescan("scan", samples / "cut-off.jpg", cwd=here)
    assert b"sha256:" in done.stderr and b"cut-off.jpg" not in done.stderr


def test_what_config_prints_with_all_is_a_file_that_changes_nothing(in_process, here, monkeypatch):
    (here / "bladescan.toml").write_text('[scan]\nexclude = ["a", "\\"b\\n"]\n[train]\nphotos = "p"\n')
    printed = in_process("config", "--all").stdout
    assert tomllib.loads(printed)["scan"] == {"exclude": ["a", printed and '"b\\n']}
    every = {f"{' '.join(path)}.{name}" for path, c in commands(get_command(app)) for name in options(c)}
    table, seen = "", set()
    for line in printed.splitlines():
        name, equals, _ = line.removeprefix("# ").partition(" = ")
        table = line.strip("[]").replace(".", " ") if line.startswith("[") else table
        seen |= {f"{table}.{name}"} if equals else set()
    assert seen == every


def test_config_of_no_command_is_said(in_process, here):
    assert "Did you mean 'scan'?" in in_process("config", "scna").stderr
    assert in_process("config", "ledger").stdout.startswith("# there is no bladescan.toml")


def test_no_variable_stands_for_two_options():
    names = [variable(path, name) for path, c in commands(get_command(app)) for name in options(c)]
    assert len(names) > 100 and len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("command", "option"),
    [("scan", "--image-model"), ("scan", "--files-from"), ("inspect", "--model"), ("scan", "--trust-list")],
)
def test_an_option_of_which_two_may_have_been_meant_is_not_taken_for_the_last(in_process, command, option):
    done = in_process(command, "x.jpg", option, "a", f"{option}=b")
    assert done.exit_code == ExitCode.FAILED
    assert f"given 2 times, but {command} takes one" in done.stderr and option in done.stderr


def test_other_options_may_be_overridden_and_repeatable_ones_repeated(in_process, samples):
    picture = samples / "no-face.webp"
    done = in_process("scan", picture, "--faces", "mtcn", "--faces", "yunet", "--format", "csv")
    assert done.exit_code == ExitCode.CLEAN
    done = in_process("scan", picture, "--model", "a", "--model", "b")
    assert "need --combine" in done.stderr
