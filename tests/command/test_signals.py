"""Signals that strike a real command: what was finished is kept, and no process stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bladescan.base.exit_codes import ExitCode
from tests.command.test_app import rows


@pytest.mark.parametrize("number,code", [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_scan_keeps_what_was_finished(samples, tmp_path, number, code):
    (tmp_path / "v.jsonl").write_text("the old file")
    command = [sys.executable, "-m", "bladescan", "scan", "-", "-o", "v.jsonl"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stderr=pipe, cwd=tmp_path) as scan:
        assert scan.stdin is not None and scan.stderr is not None
        scan.stdin.write(f"{samples / 'cut-off.jpg'}\n".encode())
        scan.stdin.flush()
        assert b"truncated" in scan.stderr.readline()  # the row is written; the list goes on
        scan.send_signal(number)
        said = scan.stderr.read().decode()
        assert scan.wait(timeout=60) == code
    assert "interrupted after 1 image" in said and "Traceback" not in said
    assert (tmp_path / "v.jsonl").read_text() == "the old file"
    lines = [json.loads(line) for line in (tmp_path / "v.partial.jsonl").read_text().splitlines()]
    assert [line["type"] for line in lines] == ["run", "image", "summary"]
    assert lines[-1]["complete"] is False
    assert "; the same command with --resume continues" in said
    left = [".v.jsonl.bladescan-journal", "v.jsonl", "v.partial.jsonl"]
    assert sorted(p.name for p in tmp_path.iterdir()) == left


@pytest.mark.parametrize("name", ["HUP", "INT", "TERM"])
def test_a_signal_that_the_caller_ignores_stays_ignored(samples, name):
    command = f"trap '' {name}; exec {sys.executable} -m bladescan scan - --format jsonl"
    pipe = subprocess.PIPE
    with subprocess.Popen(["bash", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe) as scan:
        assert scan.stdin is not None and scan.stdout is not None
        scan.stdin.write(f"{samples / 'no-face.webp'}\n".encode())
        scan.stdin.flush()
        assert json.loads(scan.stdout.readline())["type"] == "run"
        assert json.loads(scan.stdout.readline())["type"] == "image"
        scan.send_signal(getattr(signal, f"SIG{name}"))
        time.sleep(0.3)
        out, _ = scan.communicate(timeout=60)
    assert scan.returncode == ExitCode.CLEAN and json.loads(out)["complete"] is True


def wait_until_begun(pid: int) -> None:
    """Until the command answers Ctrl-C in its own way.

    Before that Python does, as an exception that its start-up may swallow: coverage is imported there under a
    bare except. First the command gives SIGINT back to the system, then it catches SIGTERM too.
    """
    was_caught = False
    while True:
        (caught,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
        caught_now = bool(int(caught, 16) >> (signal.SIGINT - 1) & 1)
        if (was_caught and not caught_now) or int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            return
        was_caught |= caught_now
        time.sleep(0.002)


@pytest.mark.parametrize("after_s", [0.0, 0.3, 0.8])
def test_ctrl_c_reaches_the_whole_process_group_without_a_traceback(samples, after_s):
    # Where it strikes differs from run to run: imports, the start of workers, the scan. The answer must not.
    command = [sys.executable, "-m", "bladescan", "scan", *[str(samples)] * 200, "--workers", "2", "-q"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, start_new_session=True) as scan:
        wait_until_begun(scan.pid)
        time.sleep(after_s)
        os.killpg(scan.pid, signal.SIGINT)
        said = scan.communicate(timeout=60)[1]
    # -SIGINT: while the command was being imported, when it ends as a program in C would
    assert scan.returncode in (ExitCode.INTERRUPTED, -signal.SIGINT)
    assert b"Traceback" not in said


def descendants(pid: int) -> set[int]:
    """Of a living process; threads that end while it is looked at have no children left to miss."""
    found = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for child in (task / "children").read_text().split():
                    found |= {int(child)} | descendants(int(child))
    return found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_process_outlives_a_killed_scan(samples, workers):
    command = [sys.executable, "-m", "bladescan", "scan", "-", "--workers", workers]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as scan:
        assert scan.stdin is not None and scan.stderr is not None
        scan.stdin.write(f"{samples / 'cut-off.jpg'}\n".encode())
        scan.stdin.flush()
        scan.stderr.readline()
        children = descendants(scan.pid)
        scan.kill()
    assert children
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def n_journalled(folder: Path) -> int:
    """Images in the journal of ``v.csv`` in a folder."""
    try:
        db = sqlite3.connect(f"file:{folder}/.v.csv.bladescan-journal?mode=ro", uri=True)
    except sqlite3.OperationalError:  # not there yet
        return 0
    with contextlib.closing(db):
        try:
            return int(db.execute("SELECT count(*) FROM entry").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def test_an_interrupted_discovery_rate_keeps_what_was_finished(samples, tmp_path):
    command = [sys.executable, "-m", "bladescan", "scan", "-", "--fdr", "0.1", "-o", "v.csv"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stderr=pipe, cwd=tmp_path) as scan:
        assert scan.stdin is not None and scan.stderr is not None
        deadline = time.monotonic() + 120
        while not n_journalled(tmp_path) and time.monotonic() < deadline:
            # Nothing is said before the end of the batch, but the journal tells how far it is.
            scan.stdin.write(f"{samples / 'portrait.jpg'}\n".encode())
            scan.stdin.flush()
            time.sleep(0.5)
        scan.send_signal(signal.SIGTERM)
        said = re.search(r"interrupted after (\d+) images?", scan.stderr.read().decode())
        assert scan.wait(timeout=60) == ExitCode.TERMINATED
    assert said is not None
    assert len(rows((tmp_path / "v.partial.csv").read_bytes())) == int(said[1]) > 0
