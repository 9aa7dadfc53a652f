"""The ledger: what has not changed is not read again, two runs do not mix, only what was written counts."""

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
from contextlib import closing
from datetime import UTC, datetime

import pytest

from bladescan.base.errors import OutputError
from bladescan.base.exit_codes import ExitCode
from bladescan.base.records import FaceBox, FaceVerdict, ImageRecord, Reason, Verdict
from bladescan.command.demo import write_samples
from bladescan.ledger.earlier import EarlierOptions, EarlierVerdicts
from bladescan.ledger.entries import LedgerEntry, VerdictSettings, key_of, stamp_of
from bladescan.ledger.entry_file import EntryFile, mapped_errors
from bladescan.ledger.journal import Journal
from bladescan.ledger.ledger import KIND, Ledger, PruneRule, open_reader
from bladescan.sources.source import Source, Stamp

FAST = ("--faces", "none")
ONE, OTHER = VerdictSettings.of({"head": "one-class"}), VerdictSettings.of({"head": "binary"})
FACE = FaceVerdict(
    1, FaceBox(0.1, 2, 3, 4, 0.5, ((1.0, 2.0),) * 5), -1e-17, 1 / 3, 0.25, Verdict.AI_GENERATED
)
NAMES = ["a.jpg", "é\n.jpg", "\udcff\udcfe,'.jpg", "s3://bucket/a//b", "=1+1"]


def rows(text):
    return list(csv.DictReader(io.StringIO(text.decode("utf-8", "surrogateescape"), newline="")))


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


def scan_all(path, settings, sources, *, show="all", output=None, lose=()):
    """What a scan is to the ledger: known sources keep their records, the others get new ones."""
    options = EarlierOptions(None if output is None else str(output), ledger=str(path), show=show)
    with EarlierVerdicts(options, settings, holds_back=False) as earlier:
        earlier.begin()
        new, out = [], []

        def records():
            for source in earlier.look_up(sources):
                if source.known is None:
                    new.append(source.name)
                yield source.known or ImageRecord(source.name, Verdict.AI_GENERATED, faces=(FACE,))

        out = [record for record in earlier.keep(records())]
        earlier.commit()
        return new, out, earlier.n_unchanged


# What is kept, and when it is used


def test_a_record_comes_back_as_it_was_under_its_name_of_today(tmp_path):
    sources = [Source(name, stamp=Stamp(1, "x")) for name in NAMES]
    new, first, _ = scan_all(tmp_path / "ledger", ONE, sources)
    assert new == NAMES
    new, again, n_unchanged = scan_all(tmp_path / "ledger", ONE, sources)
    assert (new, again, n_unchanged) == ([], first, len(NAMES))
    with open_reader(str(tmp_path / "ledger")) as reader:
        found = {os.fsencode(entry.record.source) for entry in reader.entries()}
    assert found == {key_of(name) for name in NAMES}


@pytest.mark.parametrize("output", [None, "v.csv"])
def test_size_time_etag_and_settings_each_make_an_entry_stale(tmp_path, output):
    def look(stamp, settings=ONE):
        sources = [Source("s3://b/k", stamp=stamp)]
        return scan_all(tmp_path / "ledger", settings, sources, output=output and tmp_path / output)[0]

    assert look(Stamp(1, "x"))
    assert not look(Stamp(1, "x"))
    assert look(Stamp(2, "x"))
    assert look(Stamp(2, "y"))
    assert not look(Stamp(2, "y"))
    assert look(Stamp(2, "y"), OTHER)
    assert look(Stamp(2, "y"), ONE)  # one entry for each source: the newest


def test_only_new_rows_are_shown_by_choice(tmp_path):
    sources = [Source(name, stamp=Stamp(1, "x")) for name in NAMES]
    scan_all(tmp_path / "ledger", ONE, sources[:3])
    new, shown, n_unchanged = scan_all(tmp_path / "ledger", ONE, sources, show="new")
    assert new == [record.source for record in shown] == NAMES[3:]
    assert n_unchanged == 3


def test_a_name_listed_twice_has_two_rows_each_time(tmp_path):
    sources = [Source("s3://b/k", stamp=Stamp(1, "x"))] * 200
    new, shown, _ = scan_all(tmp_path / "ledger", ONE, sources, show="new")
    assert len(new) == len(shown) == 200


@pytest.mark.parametrize("reason", Reason)
def test_what_may_pass_is_looked_at_again(tmp_path, reason):
    options = EarlierOptions(ledger=str(tmp_path / "ledger"))
    source = Source("s3://b/k", stamp=Stamp(1, "x"))
    for _ in range(2):
        with EarlierVerdicts(options, ONE, holds_back=False) as earlier:
            (listed,) = earlier.look_up([source])
            record = ImageRecord("s3://b/k", Verdict.UNREADABLE, reason)
            list(earlier.keep([listed.known or record]))
            earlier.commit()
    passing = {"timeout", "read-error", "permission-denied", "vanished", "not-found", "decoder-crashed"}
    assert (listed.known is None) == (reason.value in passing)


def test_a_file_that_was_written_just_now_is_not_remembered(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"1")
    now = time.time_ns()
    os.utime(path, ns=(now, now))
    assert stamp_of(Source(str(path))) is None
    os.utime(path, ns=(now, now - 10**9 + 1))
    assert stamp_of(Source(str(path))) == Stamp(1, str(now - 10**9 + 1))
    now = time.time_ns() // 10**9 * 10**9  # whole seconds, as FAT has them
    os.utime(path, ns=(now, now))
    assert stamp_of(Source(str(path))) is None


def test_a_key_names_the_same_file_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    monkeypatch.chdir(tmp_path)
    assert key_of("a/x") == key_of("./a//x") == key_of("link/../x") == os.fsencode(tmp_path / "a" / "x")
    assert key_of("https://user:secret@host/x?y=@") == b"https://host/x?y=@"


def test_entries_of_rows_that_were_not_written_are_not_kept(tmp_path):
    sources = [Source(name, stamp=Stamp(1, "x")) for name in NAMES]
    options = EarlierOptions(str(tmp_path / "v.csv"), ledger=str(tmp_path / "ledger"))
    with EarlierVerdicts(options, ONE, holds_back=False) as earlier:
        earlier.begin()
        listed = earlier.look_up(sources)
        list(earlier.keep(ImageRecord(source.name, Verdict.NO_FACE) for source in listed))
    new, _, _ = scan_all(tmp_path / "ledger", ONE, sources)
    assert new == NAMES
    # Now the journal of the first run has all, but a resumed run lists only one.
    options = EarlierOptions(str(tmp_path / "v.csv"), resume=True, ledger=str(tmp_path / "other"))
    with EarlierVerdicts(options, ONE, holds_back=False) as earlier:
        assert "(5 images" in earlier.begin()[0]
        assert [s.known is not None for s in earlier.look_up(sources[:1])] == [True]
        list(earlier.keep([ImageRecord(NAMES[0], Verdict.NO_FACE)]))
        earlier.commit()
    with open_reader(str(tmp_path / "other")) as reader:
        assert [os.path.basename(entry.record.source) for entry in reader.entries()] == NAMES[:1]
    assert not list(tmp_path.glob(".v.csv*"))


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
    assert first.returncode == ExitCode.INCOMPLETE and len(written(first)) == 4
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


@pytest.mark.parametrize("kind", ["text", "database", "newer", "folder", "nowhere", "pipe"])
def test_a_ledger_that_cannot_be_is_one_line_before_the_scan(scan, pictures, kind):
    path = pictures.parent / "bad"
    known = {
        "newer": "later version",
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
    elif kind in ("database", "newer"):
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE entry (x)")
            if kind == "newer":
                db.execute(f"PRAGMA application_id = {KIND.application_id}")
                db.execute("PRAGMA user_version = 99")
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


def test_a_ledger_that_may_not_be_written_says_what_it_needs(tmp_path):
    with (
        pytest.raises(OutputError, match="needs write permission for the file and its folder"),
        mapped_errors("x", "ledger"),
    ):
        with closing(sqlite3.connect(tmp_path / "x")) as db:
            db.execute("PRAGMA query_only = ON")
            db.execute("CREATE TABLE entry (x)")


def test_a_damaged_ledger_is_one_line_with_a_way_out(scan, pictures):
    scan()
    path = pictures.parent / "ledger"
    path.write_bytes(path.read_bytes()[:4096] + b"x" * 8192)
    done = scan()
    said = done.stderr.decode()
    assert done.returncode == ExitCode.FAILED and len(said.splitlines()) == 1
    assert "ledger ledger: " in said and "move it away" in said


def test_a_journal_is_no_ledger(tmp_path):
    journal = Journal(str(tmp_path / "v.csv"), ONE, resume=False)
    journal.put(LedgerEntry(b"k", Stamp(1, "x"), ImageRecord("k", Verdict.NO_FACE)))
    journal.close()
    with pytest.raises(Exception, match="is not a ledger"):
        Ledger(journal.path)


def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path):
    file = EntryFile(str(tmp_path / "ledger"), KIND)
    file.begin_run(ONE)
    file.put(LedgerEntry(b"k", Stamp(1, "x"), ImageRecord("k", Verdict.NO_FACE)))
    file.flush()
    pages = file.db.execute("PRAGMA page_count").fetchone()[0]
    file.db.execute(f"PRAGMA max_page_count = {pages}")  # as a full disk: SQLite's own answer to it
    for index in range(1000):
        file._held.append((b"%d" % index, 1, "x", "no-face", "{}" * 100, 0, file.settings, file.run))
    with pytest.raises(Exception, match="full"):
        file.flush()
    file.close()
    with open_reader(str(tmp_path / "ledger")) as reader:
        assert sum(count.n for count in reader.counts()) == 1


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
    assert b"4 images, 1 runs" in ask("counts", "ledger")
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


@pytest.fixture
def filled(tmp_path):
    """A ledger of a file that is there, one that is gone, an object, and one entry of other settings."""
    (tmp_path / "there").touch()
    os.utime(tmp_path / "there", (1, 1.5))
    gone = [Source(str(tmp_path / name), stamp=Stamp(1, "x")) for name in ("gone", "there/below-a-file")]
    scan_all(tmp_path / "ledger", OTHER, gone[:1])
    scan_all(
        tmp_path / "ledger",
        ONE,
        [Source(str(tmp_path / "there")), Source("s3://b/k", stamp=Stamp(1, "x")), *gone[1:]],
    )
    return tmp_path / "ledger"


@pytest.mark.parametrize(
    "rule,left",
    [
        (PruneRule(), ["gone", "there", "k", "below-a-file"]),
        (PruneRule(gone=True), ["there", "k"]),
        (PruneRule(stale=True), ["there", "k", "below-a-file"]),
        (
            PruneRule(before=datetime(2020, 1, 1, tzinfo=UTC).timestamp()),
            ["gone", "there", "k", "below-a-file"],
        ),
        (PruneRule(before=datetime(2999, 1, 1, tzinfo=UTC).timestamp()), []),
    ],
)
def test_only_what_the_rule_names_is_pruned(filled, rule, left):
    file = Ledger(str(filled))
    assert file.prune(rule, dry_run=True) == 4 - len(left)
    assert file.count() == 4
    assert file.prune(rule) == 4 - len(left)
    file.close()
    with open_reader(str(filled)) as reader:
        assert {os.path.basename(entry.record.source) for entry in reader.entries()} == set(left)


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
