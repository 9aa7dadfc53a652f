"""What people expect of any command: -h, completion, groups in the help, files that are left alone."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from typer.main import get_command

from bladescan.base.exit_codes import ExitCode
from bladescan.command.app import COMMANDS, app
from bladescan.command.configured import CONFIGURATION
from bladescan.command.options import FACES, LOGS, OUTPUT, RUN, SCORE, SOURCE
from tests.command.terminals import on_terminal

LEDGER = [["ledger"], *(["ledger", name] for name in ("counts", "find", "export", "prune"))]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), *LEDGER], ids=" ".join)
def test_h_is_help_everywhere(in_process, command):
    short, long = (in_process(*command, option) for option in ("-h", "--help"))
    assert short.exit_code == long.exit_code == ExitCode.CLEAN
    assert short.stdout == long.stdout and "-h, --help" in short.stdout


@pytest.mark.parametrize(
    "typed,words",
    [("bladescan sc", {"scan"}), ("bladescan scan --fail", {"--fail-on"}), ("bladescan led", {"ledger"})],
)
def test_a_shell_completes_commands_and_options(bladescan, typed, words):
    env = {
        "_BLADESCAN_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
    }
    assert set(bladescan(env=env).stdout.decode().split()) == words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell_is_shown(bladescan, shell):
    script = bladescan("--show-completion", shell).stdout.decode()
    assert "_BLADESCAN_COMPLETE" in script and "bladescan" in script


def test_every_option_of_a_scan_stands_in_a_group():
    options = [p for p in get_command(app).commands["scan"].params if p.param_type_name == "option"]
    alone = [option.name for option in options if option.name != "help" and not option.rich_help_panel]
    assert len(options) > 30 and alone == []


def test_the_help_of_a_scan_shows_the_groups_on_a_terminal():
    code, shown = on_terminal("scan", "-h", env={"NO_COLOR": "1"})
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert code == ExitCode.CLEAN
    groups = set(re.findall(r"─ ([A-Z][a-z ]+) ─", text))
    assert groups == {SOURCE, FACES, SCORE, OUTPUT, RUN, LOGS, CONFIGURATION, "Arguments", "Options"}


def test_recipes_are_listed_without_an_extra(tmp_path):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('yaml', 'torch', 'sklearn', 'scipy', 'cv2')))\n"
        "sys.argv = ['bladescan', 'recipes']\n"
        "from bladescan.command.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == ExitCode.CLEAN and b"small" in done.stdout


def test_a_demo_overwrites_nothing(bladescan, tmp_path):
    assert bladescan("demo", "samples", cwd=tmp_path).returncode == ExitCode.CLEAN
    again = bladescan("demo", "samples", cwd=tmp_path)
    assert again.returncode == ExitCode.CLEAN and again.stdout.count(b"\n") == 5
    mine = tmp_path / "samples" / "portrait.jpg"
    mine.write_bytes(b"mine")
    (tmp_path / "samples" / "cut-off.jpg").unlink()
    done = bladescan("demo", "samples", cwd=tmp_path)
    assert done.returncode == ExitCode.FAILED
    assert b"samples/portrait.jpg is there already, and is not the sample" in done.stderr
    assert mine.read_bytes() == b"mine" and not (tmp_path / "samples" / "cut-off.jpg").exists()
