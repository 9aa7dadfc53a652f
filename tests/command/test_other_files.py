"""Files below folders that are no pictures: counted, never a row, never an error, whatever else is asked."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from bladescan.base.exit_codes import ExitCode

PICTURES = ["a.jpg", "inside/no-suffix", "inside/picture.dat", "z.png"]
N_OTHERS = 9


def names(stdout: bytes) -> list[str]:
    return [row["path"] for row in csv.DictReader(io.StringIO(stdout.decode(), newline=""))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pictures, two with names that do not say so, and what else lies in a folder of uploads."""
    folder = tmp_path_factory.mktemp("others") / "uploads"
    (folder / "inside").mkdir(parents=True)
    rng = np.random.default_rng(7)
    for name in PICTURES:
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((224, 224), 3).save(folder / name, "PNG" if name[0] == "z" else "JPEG")
    (folder / "README.txt").write_text("Pictures of November.\n")
    (folder / "a.jpg.json").write_text('{"title": "a.jpg"}')
    (folder / "cars.txt").write_text("BMW is a car, and this is no BMP.\n")
    (folder / "priorities.md").write_text("P1 is more urgent than P2.\n")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    (folder / "inside" / "_SUCCESS").touch()
    (folder / "inside" / "film.mp4").write_bytes(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(100))
    (folder / "inside" / "report.pdf").write_bytes(b"%PDF-1.7\n" + bytes(100))
    with zipfile.ZipFile(folder / "inside" / "table.docx", "w") as document:
        document.writestr("word/document.xml", "<w/>")
    return folder


@pytest.fixture(scope="module")
def scan(bladescan, folder):
    """Scan the folder by the name ``uploads``, or what is named in place of it."""

    def run(*options, what=("uploads",), **more):
        return bladescan("scan", *what, "--faces", "none", *options, cwd=folder.parent, **more)

    return run


def summary_of(done) -> dict:
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "options", [[], ["--workers", "2"], ["--batch-size", "1"], ["--fdr", "0.5"], ["--max-errors", "0"]]
)
def test_pictures_have_rows_in_order_and_the_rest_is_counted(scan, options):
    done = scan(*options)
    assert names(done.stdout) == [f"uploads/{name}" for name in PICTURES]
    assert f", {N_OTHERS} other files, 4 faces" in done.stderr.decode()
    assert done.returncode in (ExitCode.CLEAN, ExitCode.FLAGGED) and b"README" not in done.stderr


def test_the_summary_and_the_metrics_have_the_count(scan, folder, tmp_path):
    done = scan("--format", "jsonl", "--metrics", tmp_path / "m.prom")
    summary = summary_of(done)
    assert (summary["n_images"], summary["n_other_files"]) == (4, N_OTHERS)
    assert summary["verdicts"]["unreadable"] == 0 and summary["reasons"] == {}
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert summary["bytes_read"] == size
    assert f'bladescan_last_run_other_files{{scan="m"}} {N_OTHERS}' in (tmp_path / "m.prom").read_text()


def test_with_all_files_and_by_name_each_has_its_row(scan, folder):
    done = scan("--all-files")
    assert done.returncode in (ExitCode.INCOMPLETE, ExitCode.FLAGGED_AND_INCOMPLETE)
    assert len(names(done.stdout)) == len(PICTURES) + N_OTHERS and b"other file" not in done.stderr
    by_name = scan(what=("uploads/README.txt",))
    by_list = scan(what=("-",), stdin=b"uploads/README.txt\n")
    for done in (by_name, by_list):
        assert names(done.stdout) == ["uploads/README.txt"] and done.returncode == ExitCode.INCOMPLETE


def test_what_is_called_a_picture_and_is_none_keeps_its_row(scan, tmp_path):
    for name in ("a.jpg", "b.PNG", "c.nef", "d.webp~", "e.jpeg.part"):
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / "f.txt").write_bytes(b"\xff\xd8\xff\xe0 a picture that is cut off, whatever it is called")
    done = scan(what=(tmp_path,))
    assert len(names(done.stdout)) == 6 and done.returncode == ExitCode.INCOMPLETE


def test_a_folder_with_nothing_else_is_empty(scan, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    done = scan(what=(tmp_path,))
    assert done.returncode == ExitCode.INCOMPLETE and b"(nothing to scan), 1 other file," in done.stderr
    assert scan("--allow-empty", what=(tmp_path,)).returncode == ExitCode.CLEAN


def test_a_film_larger_than_the_limit_is_looked_at_only_where_it_begins(scan, tmp_path):
    with open(tmp_path / "film.mp4", "wb") as film:
        film.write(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2")
        film.truncate(1 << 33)
    with open(tmp_path / "picture.bin", "wb") as picture:
        picture.write(b"\x89PNG\r\n\x1a\n")
        picture.truncate(1 << 33)
    summary = summary_of(scan("--format", "jsonl", what=(tmp_path,)))
    assert (summary["n_other_files"], summary["reasons"]) == (1, {"too-many-bytes": 1})


def test_shards_count_all_of_them_once(scan):
    parts = [summary_of(scan("--format", "jsonl", "--shard", f"{i}/3")) for i in (1, 2, 3)]
    assert sum(part["n_images"] for part in parts) == 4
    assert sum(part["n_other_files"] for part in parts) == N_OTHERS


def age(folder):
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9))  # so old that it cannot change unseen


def test_a_ledger_remembers_them_and_shows_none(scan, folder, bladescan, tmp_path):
    age(folder)
    options = ("--ledger", tmp_path / "ledger", "--format", "jsonl")
    first, new, all_ = (summary_of(scan(*options, *more)) for more in ((), ("--show", "new"), ()))
    assert [s["n_other_files"] for s in (first, new, all_)] == [N_OTHERS] * 3
    assert [s["n_unchanged"] for s in (first, new, all_)] == [0, 4, 4]
    assert [s["n_images"] for s in (first, new, all_)] == [4, 0, 4]
    assert new["bytes_read"] == all_["bytes_read"] == 0
    assert b"ledger: 4 images" in bladescan("ledger", "counts", tmp_path / "ledger").stdout
    exported = bladescan("ledger", "export", tmp_path / "ledger", "--format", "csv").stdout
    assert len(names(exported)) == 4
    named = scan(*options, what=("uploads/README.txt",))
    assert summary_of(named)["reasons"] == {"not-an-image": 1}
    assert summary_of(scan(*options, "--all-files"))["reasons"]["not-an-image"] > 1


def test_a_scan_that_is_resumed_counts_them_all(scan, folder, tmp_path):
    age(folder)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    options = ("-o", tmp_path / "v.jsonl", "--resume")
    stopped = scan(*options, "--max-errors", "0", what=("uploads", broken, "uploads"))
    assert stopped.returncode in (ExitCode.INCOMPLETE, ExitCode.FLAGGED_AND_INCOMPLETE)
    assert b"stopped: 1 of 5 images" in stopped.stderr
    done = scan(*options, what=("uploads", broken, "uploads"))
    assert b"continuing" in done.stderr
    kept = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert kept[-1]["n_other_files"] == 2 * N_OTHERS and kept[-1]["n_images"] == 9
    assert len(kept) == 11


def test_a_program_gets_the_pictures_and_the_count(folder):
    import bladescan

    options = bladescan.ScanOptions(decoder=bladescan.DecoderSettings(faces="none"))
    with bladescan.Scanner(options) as scanner:
        assert len(list(scanner.scan(folder))) == 4
        assert scanner.n_other_files == N_OTHERS
        everything = bladescan.SourceQuery((str(folder),), all_files=True)
        assert len(list(scanner.scan(everything))) == 4 + N_OTHERS
