"""Signals that strike where Python swallows exceptions, or during the clean-up: real processes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from bladescan.base.exit_codes import ExitCode

COMMAND = """
import os, signal, sys, threading, time
import typer
from bladescan.command.guard import guarded

{where}

@guarded
def command():
    {what}

try:
    command()
except typer.Exit as exc:
    sys.exit(exc.exit_code)
"""
BARE_EXCEPT = """
def strike():
    try:
        os.kill(os.getpid(), {number})
        time.sleep(30)
    except:
        print("swallowed", flush=True)
"""
FINALISER = """
class Loud:
    def __del__(self):
        os.kill(os.getpid(), {number})
        time.sleep(30)

def strike():
    Loud()
    print("swallowed", flush=True)
"""


def run(where: str, what: str, number: int) -> subprocess.CompletedProcess[bytes]:
    code = COMMAND.format(where=where.replace("{number}", str(int(number))), what=what)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("where", [BARE_EXCEPT, FINALISER], ids=["bare except", "finaliser"])
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGHUP, ExitCode.HUNG_UP),
        (signal.SIGINT, ExitCode.INTERRUPTED),
        (signal.SIGTERM, ExitCode.TERMINATED),
    ],
)
def test_a_signal_whose_exception_was_swallowed_ends_the_command_all_the_same(where, number, code):
    done = run(where, "strike(); time.sleep(50)", number)
    assert (done.stdout, done.returncode) == (b"swallowed\n", code)


def test_later_signals_do_not_break_the_clean_up_off():
    where = """
def clean_up():
    for _ in range(30):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
    print("clean", flush=True)

def strike():
    try:
        os.kill(os.getpid(), {number})
        time.sleep(30)
    finally:
        clean_up()
"""
    done = run(where, "strike()", signal.SIGTERM)
    assert (done.stdout, done.stderr, done.returncode) == (b"clean\n", b"", ExitCode.TERMINATED)
