"""One folder with everything that a folder can hold, and folders that change while they are scanned."""

from __future__ import annotations

import base64
import csv
import io
import os
import socket
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from bladescan.base.exit_codes import ExitCode

pytestmark = pytest.mark.integration

NAMES = [
    b"line\nend.png",
    b"carriage\rreturn.png",
    b'quo"te.png',
    b"com,ma;semi.png",
    b"\x1b[2J\x1b]0;title\x07.png",
    b"=cmd|' calc'!A0.png",
    b"+1+1.png",
    b"@SUM(1).png",
    b"--output=x.png",
    b"-",
    b"-o",
    b"\xff\xfe\x80.png",
    b"caf\xe9.png",
    b"trailing space ",
    b" leading.png",
    b"trailing dot.",
    b"tab\tbed.png",
    "bidi\u202egnp.exe".encode(),
    "c1\x9b2J.png".encode(),
    "zero\u200bwidth\ufeff.png".encode(),
    "\uff1dfullwidth.png".encode(),
    b"percent%s%n{0}.png",
    b"back\\slash.png",
    b"*?[x].png",
    b"NUL",
    b"x" * 251 + b".png",
    b"\xf0\x9f\x99\x82" * 63 + b".x",
]
DEEP = b"/".join([b"d" * 200] * 15)
"""Some 3,000 bytes: a path within what the system takes in one call."""


def rows(text: bytes) -> list[dict[bytes, bytes]]:
    """Rows of a CSV file as bytes, the path as the file is called."""
    found = csv.DictReader(io.StringIO(text.decode(), newline=""))
    encoded = [{key.encode(): value.encode() for key, value in row.items()} for row in found]
    return [row | {b"path": base64.b64decode(row[b"path_bytes"]) or row[b"path"]} for row in encoded]


def control_characters(text: bytes) -> set[str]:
    characters = text.decode().replace("\n", "").replace("\r", "")
    return {c for c in characters if unicodedata.category(c) in ("Cc", "Cf", "Cs")}


@pytest.fixture(scope="module")
def png() -> bytes:
    out = io.BytesIO()
    Image.effect_mandelbrot((64, 64), (-2.0, -1.0, 1.0, 1.0), 50).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def pile(tmp_path: Path, png: bytes) -> Iterator[Path]:
    folder = tmp_path / "pile"
    folder.mkdir()
    root = os.fsencode(folder)
    for name in NAMES:
        with open(os.path.join(root, name), "wb") as file:
            file.write(png)
    os.makedirs(os.path.join(root, DEEP))
    with open(os.path.join(root, DEEP, b"deep.png"), "wb") as file:
        file.write(png)
    os.mkfifo(folder / "fifo")
    for name, target in SPECIAL_LINKS.items():
        (folder / name).symlink_to(target)
    with socket.socket(socket.AF_UNIX) as server:
        before = os.getcwd()
        os.chdir(folder)  # a socket's path is short
        server.bind("socket")
        os.chdir(before)
        yield folder


SPECIAL_LINKS = {
    "zero": "/dev/zero",
    "full": "/dev/full",
    "self": "self",
    "ping": "pong",
    "pong": "ping",
    "up": "..",
    "nothing": "no such file",
    "picture": "NUL",
    "endless": "/proc/self/fd",
}
NOT_FILES = {b"fifo", b"socket", b"zero", b"full", b"self", b"ping", b"pong"}


def expected_rows() -> dict[bytes, bytes]:
    reasons = dict.fromkeys([*NAMES, b"picture", DEEP + b"/deep.png"], b"")
    return reasons | dict.fromkeys(NOT_FILES, b"not-a-file") | {b"nothing": b"not-found"}


@pytest.mark.parametrize("by", ["folder", "list"])
def test_everything_in_a_folder_has_its_row_under_its_own_name(bladescan, pile, by):
    wanted = expected_rows()
    options = ["--hidden", "--faces", "none", "--format", "csv"]
    if by == "folder":
        done = bladescan("scan", ".", *options, cwd=pile)
    else:  # a name that is only a dash would be the list itself
        names = b"\0".join(name if name != b"-" else b"./-" for name in wanted)
        done = bladescan("scan", "-", "-0", *options, cwd=pile, stdin=names)
    assert done.returncode == ExitCode.INCOMPLETE
    assert b"Traceback" not in done.stderr
    found = rows(done.stdout)
    assert len(found) == len(wanted)
    assert {row[b"path"].removeprefix(b"./"): row[b"reason"] for row in found} == wanted
    if by == "folder":
        assert [row[b"path"] for row in found] == sorted(
            (b"./" + name for name in wanted), key=lambda name: name.split(b"/")
        )


def test_no_cell_is_a_formula_and_no_message_steers_the_terminal(bladescan, pile):
    names = b"\0".join(name for name in expected_rows() if name != b"-")
    for name in NAMES:
        with open(os.path.join(os.fsencode(pile), name), "wb") as file:
            file.write(b"no image")  # so that each is named on standard error too
    done = bladescan("scan", "-", "-0", "--faces", "none", "--format", "csv", cwd=pile, stdin=names)
    cells = [value.decode("utf-8", "replace") for row in rows(done.stdout) for value in row.values()]
    assert not [cell for cell in cells if cell[:1] in tuple("=+@\t\r\n\uff1d") or cell[:2] in ("--", "-o")]
    assert not control_characters(done.stderr)
    table = bladescan("scan", "-", "-0", "--faces", "none", "--format", "table", cwd=pile, stdin=names)
    assert not control_characters(table.stdout + table.stderr)


def test_a_nest_that_the_system_takes_in_no_one_path_ends_in_a_row(bladescan, tmp_path, png, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(png)
    for _ in range(30):
        os.mkdir("n" * 200)
        os.chdir("n" * 200)
    Path("unreachable.png").write_bytes(png)
    os.chdir(tmp_path)
    done = bladescan("scan", ".", "--faces", "none", "--format", "csv", cwd=tmp_path)
    subprocess.run(["rm", "-rf", "n" * 200], check=True)  # pytest's own clean-up recurses by name
    first, last = rows(done.stdout)
    assert (first[b"path"], first[b"reason"]) == (b"./a.png", b"")
    assert last[b"reason"] == b"not-found" and len(last[b"path"]) > 4000
    assert done.returncode == ExitCode.INCOMPLETE


def change(path: Path, step: int, png: bytes) -> None:
    """Do one of six things to a file that may be read at this moment."""
    with suppress(OSError):
        if path.is_dir():
            path.rmdir()
        elif step % 6 != 1:
            path.unlink(missing_ok=True)
        if step % 6 == 0:
            path.with_suffix(".new").write_bytes(b"GIF89a")
            path.with_suffix(".new").replace(path)
        elif step % 6 == 1:
            os.truncate(path, 30)
        elif step % 6 == 3:
            os.mkfifo(path)
        elif step % 6 == 4:
            path.mkdir()
        elif step % 6 == 5:
            path.write_bytes(png)


def test_files_that_change_under_the_scan_each_have_a_row(tmp_path, png):
    folder = tmp_path / "f"
    folder.mkdir()
    paths = [folder / f"{i:04}.png" for i in range(400)]
    for path in paths:
        path.write_bytes(png)
    command = [sys.executable, "-m", "bladescan", "scan", "f", "--faces", "none", "--workers", "1"]
    stop, pipe = threading.Event(), subprocess.PIPE
    with subprocess.Popen(
        [*command, "--format", "csv", "--batch-size", "1"], stdout=pipe, stderr=pipe, cwd=tmp_path
    ) as scan:
        assert scan.stdout is not None
        head = scan.stdout.readline() + scan.stdout.readline()  # listed, and begun

        def disturb() -> None:
            step = 0
            while not stop.is_set():
                for path in paths:
                    step += 1
                    change(path, step, png)

        disturber = threading.Thread(target=disturb)
        disturber.start()
        try:
            out, said = scan.communicate(timeout=200)
        finally:
            stop.set()
            disturber.join()
    found = rows(head + out)
    assert [row[b"path"] for row in found] == [f"f/{path.name}".encode() for path in paths]
    reasons = {row[b"reason"] for row in found}
    assert reasons <= {b"", b"vanished", b"not-a-file", b"truncated", b"corrupt", b"empty", b"not-an-image"}
    assert len(reasons) > 2
    assert scan.returncode == ExitCode.INCOMPLETE and b"Traceback" not in said


def test_a_file_that_grows_for_ever_is_read_to_the_limit_and_no_further(bladescan, tmp_path, png):
    path, stop = tmp_path / "log.png", threading.Event()
    path.write_bytes(png)

    def grow() -> None:
        with path.open("ab") as file:
            while not stop.is_set() and file.tell() < 200_000_000:
                file.write(bytes(200_000))

    grower = threading.Thread(target=grow)
    grower.start()
    try:
        done = bladescan(
            "scan", tmp_path, "--faces", "none", "--max-bytes", "300K", "--format", "csv", timeout=200
        )
    finally:
        stop.set()
        grower.join()
    (row,) = rows(done.stdout)
    assert row[b"reason"] == b"too-many-bytes"
