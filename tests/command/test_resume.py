"""Scans that are killed and go on: what they write in the end is what an undisturbed scan writes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.endurance import kill_scan
from bladescan.base.exit_codes import ExitCode
from bladescan.base.records import ImageRecord, Reason, Verdict
from bladescan.ledger.entries import LedgerEntry, VerdictSettings
from bladescan.ledger.journal import Journal
from bladescan.sources.source import Stamp

EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}
FAST = ("--faces", "none")
JOURNAL = ".v.jsonl.bladescan-journal"


@pytest.fixture
def pictures(tmp_path):
    """Eight pictures; the last cannot be read, which a scan says when it gets there."""
    kill_scan.make_pictures(tmp_path / "pictures", 8, seed=1)
    time.sleep(0.05)  # a file younger than the clock's tick may change unseen, and is not remembered
    return tmp_path / "pictures"


@pytest.fixture
def started(pictures):
    """Start a scan of all the pictures that waits for more names; returns when their rows are written."""
    running = []

    def start(*options):
        command = [sys.executable, "-m", "bladescan", "scan", "-", *FAST, *options]
        pipe = subprocess.PIPE
        scan = subprocess.Popen(
            command, stdin=pipe, stderr=pipe, cwd=pictures.parent, env=dict(os.environ) | EPOCH
        )
        running.append(scan)
        scan.stdin.write(b"".join(b"pictures/%05d.jpg\n" % index for index in range(8)))
        scan.stdin.flush()
        assert any(b"00007.jpg: truncated" in line for line in scan.stderr)
        return scan

    yield start
    for scan in running:
        scan.kill()
        scan.communicate()


@pytest.fixture
def interrupted(started):
    """Interrupt such a scan; returns what it said."""

    def interrupt(*options):
        scan = started(*options)
        scan.send_signal(signal.SIGTERM)
        said = scan.communicate(timeout=60)[1].decode()
        assert scan.returncode == ExitCode.TERMINATED
        return said

    return interrupt


def rewrite_unseen(path):
    """Other content, of which neither size nor time tell."""
    status = path.stat()
    path.write_bytes(os.urandom(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_killed_scans_write_in_the_end_what_undisturbed_ones_write():
    formats = {"csv": None, "json": "all", "jsonl": "new", "parquet": None}
    cases = [kill_scan.Case(format, show) for format, show in formats.items()]
    kill_scan.run(cases, kills=4, images=40, seed=random.SystemRandom().randrange(1000), most=1)
    assert sum(case.kills for case in cases) >= 4
    for case in cases:
        assert (case.lost, case.doubled, case.different, case.left_over) == (0, 0, 0, set()), case.format


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_was_finished_is_not_read_again(bladescan, interrupted, pictures, workers):
    options = ("scan", "pictures", *FAST, "--workers", workers)
    bladescan(*options, "-o", "expected.jsonl", cwd=pictures.parent, env=EPOCH)
    assert "--resume continues" in interrupted("-o", "v.jsonl")
    rewrite_unseen(pictures / "00000.jpg")
    done = bladescan(*options, "-o", "v.jsonl", "--resume", cwd=pictures.parent, env=EPOCH)
    assert b"continuing an unfinished scan into v.jsonl (8 images" in done.stderr
    ours, expected = ((pictures.parent / name).read_bytes() for name in ("v.jsonl", "expected.jsonl"))
    assert ours == expected
    assert not (pictures.parent / JOURNAL).exists()


def test_what_has_changed_is_read_again_and_what_has_gone_has_no_row(bladescan, interrupted, pictures):
    interrupted("-o", "v.csv")
    (pictures / "00001.jpg").write_bytes(b"changed")
    (pictures / "00002.jpg").unlink()
    bladescan("scan", "pictures", *FAST, "-o", "v.csv", "--resume", cwd=pictures.parent)
    rows = (pictures.parent / "v.csv").read_text().splitlines()
    assert rows[2].startswith("pictures/00001.jpg,unreadable,not-an-image")
    assert len(rows) == 8 and not any("00002" in row for row in rows)


def test_without_resume_an_unfinished_run_is_thrown_away_and_said(bladescan, interrupted, pictures):
    interrupted("-o", "v.jsonl")
    rewrite_unseen(pictures / "00000.jpg")
    done = bladescan("scan", "pictures", *FAST, "-o", "v.jsonl", cwd=pictures.parent, env=EPOCH)
    assert b"(8 images, until 2023-11-14T22:13:20+00:00) is discarded; --resume would have" in done.stderr
    assert "not-an-image" in (pictures.parent / "v.jsonl").read_text().splitlines()[1]
    assert not (pictures.parent / JOURNAL).exists()


def test_other_settings_begin_again_and_say_which(bladescan, interrupted, pictures):
    interrupted("-o", "v.jsonl")
    rewrite_unseen(pictures / "00000.jpg")
    more = ("--false-alarm", "0.2", "--max-pixels", "5M")
    done = bladescan("scan", "pictures", *FAST, *more, "-o", "v.jsonl", "--resume", cwd=pictures.parent)
    assert b"other settings (false_alarm, limits): starting over" in done.stderr
    assert "not-an-image" in (pictures.parent / "v.jsonl").read_text().splitlines()[1]


def test_resume_with_nothing_to_go_on_with_starts_at_the_beginning(bladescan, pictures):
    done = bladescan("scan", "pictures", *FAST, "-o", "v.csv", "--resume", cwd=pictures.parent)
    assert done.returncode == ExitCode.INCOMPLETE
    assert b"note: an unfinished" not in done.stderr
    assert len((pictures.parent / "v.csv").read_text().splitlines()) == 9


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"x" * 4000])
def test_a_journal_that_cannot_be_read_is_none(bladescan, pictures, content):
    (pictures.parent / JOURNAL).write_bytes(content)
    done = bladescan("scan", "pictures", *FAST, "-o", "v.jsonl", "--resume", cwd=pictures.parent)
    assert done.returncode == ExitCode.INCOMPLETE, done.stderr
    assert (b"cannot be read" in done.stderr) is bool(content)
    assert len((pictures.parent / "v.jsonl").read_text().splitlines()) == 10
    assert not (pictures.parent / JOURNAL).exists()


def test_no_damage_to_a_journal_stops_the_scans_after_it(tmp_path):
    output, settings = str(tmp_path / "v.jsonl"), VerdictSettings.of({"version": "1"})
    record = ImageRecord("", Verdict.UNREADABLE, Reason.CORRUPT, "x" * 500)
    stamp = Stamp(1, "1")
    with closing(Journal(output, settings, resume=True)) as journal:
        for index in range(100):
            journal.put(LedgerEntry(b"/%d" % index, stamp, record))
    whole = Path(journal.path).read_bytes()
    for page in range(1, len(whole) // 4096):
        damaged = bytearray(whole)
        damaged[page * 4096 : page * 4096 + 300] = random.Random(page).randbytes(300)
        Path(journal.path).write_bytes(damaged)
        again = Journal(output, settings, resume=True)
        with again.lookup() as lookup:
            for index in range(100):
                assert lookup.find(b"/%d" % index, stamp, "") in (None, record)
                again.put(LedgerEntry(b"/%d" % index, stamp, record))
        assert again.found or "cannot be read (database disk image is malformed)" in again.notice
        again.flush()
        assert again.count() >= 100
        again.remove()


def test_a_discovery_rate_is_found_over_all_faces_of_a_resumed_scan(bladescan, interrupted, pictures):
    options = ("scan", "pictures", *FAST, "--fdr", "0.9")
    bladescan(*options, "-o", "expected.jsonl", cwd=pictures.parent, env=EPOCH)
    interrupted("-o", "v.jsonl")
    rewrite_unseen(pictures / "00000.jpg")
    bladescan(*options, "-o", "v.jsonl", "--resume", cwd=pictures.parent, env=EPOCH)
    assert (pictures.parent / "v.jsonl").read_bytes() == (pictures.parent / "expected.jsonl").read_bytes()


def test_two_scans_do_not_write_one_output(bladescan, started, pictures):
    first = started("-o", "v.jsonl")
    done = bladescan("scan", "pictures", *FAST, "-o", "v.jsonl", "--resume", cwd=pictures.parent)
    said = done.stderr.decode()
    assert done.returncode == ExitCode.FAILED
    assert said.startswith("bladescan: cannot write v.jsonl: another scan is writing it (process ")
    assert f"process {first.pid}, since 2023-11-14" in said and len(said.splitlines()) == 1
    first.communicate(timeout=60)
    assert len((pictures.parent / "v.jsonl").read_text().splitlines()) == 10


def test_a_killed_scan_leaves_its_lock_to_the_next_and_its_unfinished_file_to_be_removed(
    bladescan, started, pictures
):
    first = started("-o", "v.jsonl")
    first.kill()
    first.communicate()
    left = {path.name for path in pictures.parent.iterdir()}
    assert ".v.jsonl.bladescan-lock" in left
    assert [name for name in left if name.startswith(".bladescan-") and name.endswith(".tmp")]
    done = bladescan("scan", ".", "--hidden", *FAST, "-o", "v.jsonl", "--resume", cwd=pictures.parent)
    assert len((pictures.parent / "v.jsonl").read_text().splitlines()) == 10, done.stderr
    assert {path.name for path in pictures.parent.iterdir()} == {"pictures", "v.jsonl"}


def test_what_another_process_still_writes_is_not_removed(tmp_path):
    from bladescan.base.output_files import open_output, write_file

    target = open_output(str(tmp_path / "one"))
    target.write(b"half")
    write_file(tmp_path / "two", b"whole")
    target.write(b" and half")
    target.commit()
    assert (tmp_path / "one").read_bytes() == b"half and half"


def test_resume_needs_a_file(bladescan, pictures):
    for output in ((), ("-o", "/dev/null", "--format", "csv")):
        done = bladescan("scan", "pictures", "--resume", *output, cwd=pictures.parent)
        assert done.returncode == ExitCode.FAILED
        assert b"--resume needs an output file on this machine: give -o FILE" in done.stderr


def test_a_clock_stopped_at_no_time_is_an_error(bladescan, pictures):
    done = bladescan("scan", "pictures", *FAST, cwd=pictures.parent, env={"SOURCE_DATE_EPOCH": "noon"})
    assert done.returncode == ExitCode.FAILED
    assert b"SOURCE_DATE_EPOCH='noon': expected whole seconds" in done.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for a few pages only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_an_error_and_the_old_file_stays(bladescan, pictures, small_disk):
    (small_disk / "v.jsonl").write_text("old")
    (small_disk / "filler").write_bytes(bytes(150_000))
    names = "pictures\n" * 400
    done = bladescan(
        "scan", "-", *FAST, "-o", small_disk / "v.jsonl", stdin=names.encode(), cwd=pictures.parent
    )
    said = done.stderr.decode().splitlines()
    assert done.returncode == ExitCode.FAILED
    assert said[-1].startswith("bladescan: ") and ("full" in said[-1] or "No space" in said[-1])
    assert "Traceback" not in done.stderr.decode()
    assert (small_disk / "v.jsonl").read_text() == "old"
    assert not [path for path in small_disk.iterdir() if path.name.endswith(".tmp")]


def test_a_folder_that_may_not_be_written_is_an_error(bladescan, pictures):
    if os.geteuid() == 0:
        folder = "/proc/self"  # whoever may write everywhere may not write here
    else:
        (pictures.parent / "locked").mkdir(mode=0o500)
        folder = str(pictures.parent / "locked")
    done = bladescan("scan", "pictures", *FAST, "-o", f"{folder}/v.jsonl", "--resume", cwd=pictures.parent)
    assert done.returncode == ExitCode.FAILED
    assert done.stderr.decode().startswith(f"bladescan: cannot write {folder}/v.jsonl")
