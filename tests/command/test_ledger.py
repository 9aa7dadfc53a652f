"""A scan with a ledger reads only what is new or changed; `bladescan ledger` looks into it and prunes it."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from bladescan.base.exit_codes import ExitCode
from bladescan.command.demo import write_samples
from bladescan.ledger.ledger import KIND

FAST = ("--faces", "none", "--model", "blades")


def rows(text):
    return list(csv.DictReader(io.StringIO(text.decode(), newline="")))


@pytest.fixture
def pictures(tmp_path):
    """A folder of pictures, old enough to be remembered."""
    write_samples(tmp_path / "pictures")
    (tmp_path / "pictures" / "no-face.webp").unlink()
    time.sleep(0.05)
    return tmp_path / "pictures"


@pytest.fixture
def scan(bladescan, pictures):
    """Scan the pictures with a ledger."""

    def run(*options, ledger="ledger", **more):
        arguments = ("scan", "pictures", *FAST, "--ledger", ledger, *options)
        return bladescan(*arguments, cwd=pictures.parent, **more)

    return run


def rewrite_unseen(path):
    """Other content, of which neither size nor time tell."""
    status = path.stat()
    path.write_bytes(os.urandom(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# The command


def test_unchanged_pictures_are_not_read_again_and_changed_ones_are(scan, pictures):
    first = scan()
    rewrite_unseen(pictures / "portrait.jpg")
    again = scan()
    assert again.stdout == first.stdout and again.returncode == first.returncode == ExitCode.INCOMPLETE
    assert b"unchanged since an earlier scan: 4" in again.stderr
    (pictures / "portrait.jpg").write_bytes(b"other")
    changed = rows(scan().stdout)
    assert [row["reason"] for row in changed] == ["truncated", "not-an-image", "", ""]


@pytest.mark.parametrize("output", [(), ("-o", "v.csv"), ("--fdr", "0.5"), ("--workers", "2")])
def test_a_run_with_nothing_new_is_clean_and_says_how_many_are_unchanged(scan, pictures, output):
    def written(done):
        return rows((pictures.parent / "v.csv").read_bytes() if "-o" in output else done.stdout)

    first = scan(*output)
    assert (
        first.returncode in (ExitCode.INCOMPLETE, ExitCode.FLAGGED_AND_INCOMPLETE)
        and len(written(first)) == 4
    )
    again = scan("--show", "new", *output)
    assert (again.returncode, written(again)) == (ExitCode.CLEAN, [])
    assert b"unchanged since an earlier scan: 4" in again.stderr
    shutil.copy(pictures / "portrait.jpg", pictures / "new.jpg")
    time.sleep(0.05)
    os.utime(pictures / "new.jpg", (1, 1.5))
    assert [row["path"] for row in written(scan("--show", "new", *output))] == ["pictures/new.jpg"]


def test_the_summary_counts_what_is_unchanged(scan):
    scan()
    lines = scan("--show", "new", "--format", "jsonl").stdout.splitlines()
    summary = json.loads(lines[-1])
    assert (summary["n_images"], summary["n_unchanged"], summary["exit_code"]) == (0, 4, 0)


@pytest.mark.parametrize("change", [("--false-alarm", "0.2"), ("--head", "one-class"), ("--min-face", "40")])
def test_other_settings_scan_everything_again(scan, pictures, change):
    scan()
    rewrite_unseen(pictures / "portrait.jpg")
    again = scan(*change)
    assert rows(again.stdout)[1]["reason"] == "not-an-image"
    assert b"unchanged" not in again.stderr


def test_what_the_scan_writes_is_not_scanned_though_it_lies_among_the_pictures(bladescan, pictures):
    arguments = ("scan", ".", "--hidden", *FAST, "--ledger", "ledger", "-o", "v.jsonl", "--metrics", "m.prom")
    for _ in range(2):
        bladescan(*arguments, cwd=pictures)
        images = [json.loads(line) for line in (pictures / "v.jsonl").read_text().splitlines()][1:-1]
        assert len(images) == 4


def test_a_name_that_no_file_can_have_is_a_row_like_any(bladescan, pictures):
    done = bladescan("scan", "-", *FAST, "--ledger", "ledger", cwd=pictures, stdin=b"a\0/../portrait.jpg\n")
    (row,) = rows(done.stdout)
    assert (done.returncode, row["verdict"]) == (ExitCode.INCOMPLETE, "unreadable")


@pytest.fixture
def running(pictures):
    """A scan that holds the ledger and waits for more names."""
    command = [sys.executable, "-m", "bladescan", "scan", "-", *FAST, "--ledger", "ledger"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=pictures.parent) as running:
        running.stdin.write(b"pictures/cut-off.jpg\n")
        running.stdin.flush()
        assert b"truncated" in running.stderr.readline()
        yield running
        running.kill()


def test_of_two_runs_the_second_says_who_has_the_ledger_and_reading_goes_on(
    bladescan, scan, running, pictures
):
    second = scan()
    said = second.stderr.decode()
    assert (second.returncode, second.stdout) == (ExitCode.FAILED, b"")
    assert said.startswith(
        f"bladescan: ledger ledger: another bladescan is writing it (process {running.pid}"
    )
    assert len(said.splitlines()) == 1
    assert bladescan("ledger", "counts", "ledger", cwd=pictures.parent).returncode == 0
    pruned = bladescan("ledger", "prune", "ledger", "--stale", cwd=pictures.parent)
    assert pruned.returncode == ExitCode.FAILED and b"another bladescan is writing it" in pruned.stderr
    running.communicate(timeout=60)
    assert b"unchanged since an earlier scan: 1" in scan().stderr


def test_a_killed_run_leaves_the_ledger_to_the_next(scan, running):
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert len(rows(scan().stdout)) == 4


@pytest.mark.parametrize("kind", ["text", "database", "newer", "older", "folder", "nowhere", "pipe"])
def test_a_ledger_that_cannot_be_is_one_line_before_the_scan(scan, pictures, kind):
    path = pictures.parent / "bad"
    known = {
        "newer": "later version",
        "older": "earlier version",
        "folder": "is a folder",
        "nowhere": "No such file",
        "pipe": "or a pipe",
    }
    expected = known.get(kind, "is not a ledger")
    if kind == "text":
        path.write_bytes(b"path,verdict\n" * 100)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind in ("database", "newer", "older"):
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE entry (x)")
            if kind != "database":
                db.execute(f"PRAGMA application_id = {KIND.application_id}")
                db.execute(f"PRAGMA user_version = {99 if kind == 'newer' else 1}")
        db.close()
    before = path.read_bytes() if path.is_file() else None
    done = scan(ledger="nowhere/ledger" if kind == "nowhere" else "bad")
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (ExitCode.FAILED, b"")
    assert expected in said and len(said.splitlines()) == 1
    assert before is None or path.read_bytes() == before


@pytest.mark.parametrize(
    "command",
    [
        ("scan", "pictures", *FAST, "--ledger", "ledger", "-o", "pictures/../ledger", "--format", "csv"),
        ("scan", "pictures", *FAST, "-o", "ledger", "--metrics", "ledger", "--format", "csv"),
        ("ledger", "export", "ledger", "-o", "./ledger", "--format", "csv"),
    ],
)
def test_two_outputs_are_not_one_file(bladescan, scan, pictures, command):
    scan()
    before = (pictures.parent / "ledger").read_bytes()
    done = bladescan(*command, cwd=pictures.parent)
    assert done.returncode == ExitCode.FAILED
    assert b"name the same file" in done.stderr and len(done.stderr.splitlines()) == 1
    assert (pictures.parent / "ledger").read_bytes() == before


def test_a_clock_stopped_at_no_time_leaves_no_lock(bladescan, scan, pictures):
    scan()
    env = {**os.environ, "SOURCE_DATE_EPOCH": "noon"}
    done = bladescan("ledger", "prune", "ledger", "--stale", cwd=pictures.parent, env=env)
    assert done.returncode == ExitCode.FAILED and b"SOURCE_DATE_EPOCH" in done.stderr
    assert not (pictures.parent / "ledger.lock").exists()


def test_a_damaged_ledger_is_one_line_with_a_way_out(scan, pictures):
    scan()
    path = pictures.parent / "ledger"
    path.write_bytes(path.read_bytes()[:4096] + b"x" * 8192)
    done = scan()
    said = done.stderr.decode()
    assert done.returncode == ExitCode.FAILED and len(said.splitlines()) == 1
    assert "ledger ledger: " in said and "move it away" in said


def test_show_new_needs_a_ledger_and_a_known_word(bladescan, pictures):
    done = bladescan("scan", "pictures", "--show", "new", cwd=pictures.parent)
    assert done.returncode == ExitCode.FAILED and b"--show new needs --ledger" in done.stderr
    done = bladescan("scan", "pictures", "--show", "news", "--ledger", "x", cwd=pictures.parent)
    assert done.returncode == ExitCode.FAILED and b"Did you mean 'new'?" in done.stderr


# bladescan ledger


def test_a_ledger_is_counted_searched_and_exported(bladescan, scan, pictures):
    scanned = scan().stdout

    def ask(*arguments):
        done = bladescan("ledger", *arguments, cwd=pictures.parent)
        assert done.returncode == 0, done.stderr
        return done.stdout

    counted = json.loads(ask("counts", "ledger", "--json"))
    (settings,) = counted["settings"]
    assert counted["runs"] == 1 and settings["current"] and settings["face_finder"] == "none"
    assert sum(settings["verdicts"].values()) == 4 and settings["verdicts"]["unreadable"] == 1
    assert b"4 images, 1 run," in ask("counts", "ledger")
    assert ask("find", "ledger", "cut", "-0") == os.fsencode(pictures / "cut-off.jpg") + b"\0"
    assert ask("find", "ledger", "*/cut-off.*").endswith(
        b"unreadable:truncated  %s/cut-off.jpg\n" % os.fsencode(pictures)
    )
    assert len(ask("find", "ledger", "--verdict", "unreadable").splitlines()) == 1
    assert ask("find", "ledger", "cut-off.*", "-0") == b""
    exported = rows(ask("export", "ledger"))
    expected = [row | {"path": str(pictures.parent / row["path"])} for row in rows(scanned)]
    assert exported == expected
    ask("export", "ledger", "-o", "all.jsonl", "--verdict", "unreadable")
    lines = [json.loads(line) for line in (pictures.parent / "all.jsonl").read_text().splitlines()]
    assert [line["type"] for line in lines] == ["run", "image", "summary"]
    assert lines[0]["detector_sha256"] == settings["detector_sha256"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", [["counts", "--json"], ["find"]])
def test_an_answer_that_nothing_takes_is_an_error(filled, command, unbuffered):
    arguments = [sys.executable, "-m", "bladescan", "ledger", command[0], filled, *command[1:]]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, check=False, env=env)
    assert done.stderr == b"bladescan: cannot write standard output: No space left on device\n"
    assert done.returncode == ExitCode.FAILED


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["prune", "ledger"], "nothing to prune"),
        (["prune", "ledger", "--older-than", "soon"], "expected days or a date"),
        (["counts", "missing"], "no such ledger"),
        (["counts", "empty"], "is not a ledger"),
        (["find", "ledger", "--verdict", "clean"], "unknown verdict 'clean'"),
    ],
)
def test_what_cannot_be_asked_of_a_ledger_is_one_line(bladescan, filled, arguments, message):
    (filled.parent / "empty").touch()
    done = bladescan("ledger", *arguments, cwd=filled.parent)
    said = done.stderr.decode()
    assert done.returncode == ExitCode.FAILED
    assert message in said and len(said.splitlines()) == 1
    assert not (filled.parent / "missing").exists()


def test_old_entries_are_pruned_by_days(bladescan, filled):
    later = {"SOURCE_DATE_EPOCH": str(int(time.time()) + 3 * 86400)}
    done = bladescan("ledger", "prune", "ledger", "--older-than", "4", cwd=filled.parent, env=later)
    assert done.stdout == b"0 entries removed, 4 left\n"
    done = bladescan("ledger", "prune", "ledger", "--older-than", "2", cwd=filled.parent, env=later)
    assert done.stdout == b"4 entries removed, 0 left\n"
