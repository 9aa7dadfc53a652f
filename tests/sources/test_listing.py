"""Listing files, folders and lists of names, on a real file system."""

from __future__ import annotations

import io
import os
import pickle
import random
import subprocess

import pytest

from bladescan.base.errors import UsageError
from bladescan.base.records import Reason
from bladescan.sources import folders
from bladescan.sources.listing import list_option, list_sources
from bladescan.sources.name_lists import read_names
from bladescan.sources.query import SourceQuery, in_shard, parse_shard


def listed(*paths, stdin=None, **options):
    return list(list_sources(SourceQuery(tuple(map(str, paths)), **options), stdin=stdin))


def names(*paths, **options):
    return [source.name for source in listed(*paths, **options)]


def reasons(*paths, **options):
    found = listed(*paths, **options)
    return {os.path.basename(s.name): s.problem and s.problem.reason for s in found}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in [
        "b.jpg",
        "a/2.JPG",
        "a/1.png",
        "a/deep/x.txt",
        ".hidden.jpg",
        ".git/x.jpg",
        "c/thumbs/t.jpg",
    ]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_walked_in_byte_order_without_hidden_names(tree):
    assert names(".") == ["./a/1.png", "./a/2.JPG", "./a/deep/x.txt", "./b.jpg", "./c/thumbs/t.jpg"]
    assert names("a/") == ["a/1.png", "a/2.JPG", "a/deep/x.txt"]


def test_a_large_folder_comes_in_byte_order_whatever_lies_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_RUN", 7)  # many runs to merge
    rng = random.Random(1)
    letters = [b"a", b"b", b"!", b"-", b".", b"~", b"\xff", b"\xc3\xa9", b"\n"]
    made = {b"".join(rng.choices(letters, k=rng.randint(1, 5))) for _ in range(300)} - {b".", b".."}
    for name in made:
        path, kind = os.path.join(os.fsencode(tmp_path), name), rng.randrange(3)
        if kind == 0:
            os.mkfifo(path)
        elif kind == 1:
            os.mkdir(path)
            open(os.path.join(path, b"in"), "w").close()
        else:
            open(path, "w").close()
    found = listed(tmp_path, hidden=True)
    tops = [os.fsencode(os.path.relpath(s.name, tmp_path)).split(b"/")[0] for s in found]
    assert tops == sorted(made)
    assert {s.problem is not None for s in found} == {True, False}


def test_hidden_names_are_kept_when_asked_for_or_written_out(tree):
    assert names(".hidden.jpg", ".git") == [".hidden.jpg", ".git/x.jpg"]
    assert {"./.hidden.jpg", "./.git/x.jpg"} <= set(names(".", hidden=True))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": ("*.jpg",)}, ["./a/2.JPG", "./b.jpg", "./c/thumbs/t.jpg"]),
        ({"include": ("a/*",)}, ["./a/1.png", "./a/2.JPG", "./a/deep/x.txt"]),
        ({"include": ("**/b.jpg",)}, ["./b.jpg"]),
        ({"include": ("deep/",)}, ["./a/deep/x.txt"]),
        ({"exclude": ("thumbs",), "include": ("*.jpg",)}, ["./a/2.JPG", "./b.jpg"]),
        ({"exclude": ("thumbs/", "a/")}, ["./b.jpg"]),
        ({"exclude": ("a/d*",)}, ["./a/1.png", "./a/2.JPG", "./b.jpg", "./c/thumbs/t.jpg"]),
    ],
)
def test_globs_filter_below_folders(tree, options, expected):
    assert names(".", **options) == expected


def test_a_file_written_out_is_never_filtered(tree):
    assert names("b.jpg", exclude=("*",), include=("*.png",)) == ["b.jpg"]


def test_what_cannot_be_scanned_is_still_listed_with_its_reason(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "self").symlink_to("self")
    expected = {"pipe": Reason.NOT_A_FILE, "dangling": Reason.NOT_FOUND, "self": Reason.NOT_A_FILE}
    assert reasons(tmp_path) == expected
    assert reasons(*(tmp_path / name for name in expected)) == expected
    assert reasons(tmp_path / "missing", "/dev/null") == {
        "missing": Reason.NOT_FOUND,
        "null": Reason.NOT_A_FILE,
    }
    assert set(reasons("a\0b", "", "x" * 300).values()) == {Reason.NOT_FOUND}


def test_a_source_with_a_problem_crosses_processes(tmp_path):
    (source,) = listed(tmp_path / "missing")
    copy = pickle.loads(pickle.dumps(source))
    assert (copy.name, copy.problem.reason) == (source.name, source.problem.reason)


def test_linked_files_are_read_and_linked_folders_only_on_demand(tree):
    (tree / "a" / "link.jpg").symlink_to("../b.jpg")
    (tree / "a" / "other").symlink_to("../c")
    assert "a/link.jpg" in names("a")
    assert "a/other/thumbs/t.jpg" not in names("a")
    assert "a/other/thumbs/t.jpg" in names("a", follow_links=True)


def test_a_loop_of_links_ends_with_a_reason(tree):
    (tree / "a" / "up").symlink_to("..")
    found = {s.name: s.problem for s in listed("a", follow_links=True)}
    assert found["a/up/a"].reason is Reason.NOT_A_FILE
    assert found["a/up/b.jpg"] is None


def test_a_nest_deeper_than_python_recurses_is_walked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    open("x.jpg", "w").close()
    os.chdir(tmp_path)
    found = names("d")
    subprocess.run(["rm", "-rf", "d"], check=True)  # pytest's own clean-up recurses
    assert found == ["d/" * 1200 + "x.jpg"]


def test_names_that_are_not_utf8_or_hold_a_line_end_survive(tmp_path):
    raw = [b"\xff.jpg", b"a\nb.jpg"]
    for name in raw:
        with open(os.path.join(os.fsencode(tmp_path), name), "w"):
            pass
    assert sorted(os.fsencode(os.path.basename(n)) for n in names(tmp_path)) == sorted(raw)
    stdin = io.BytesIO(b"\0".join(os.path.join(os.fsencode(tmp_path), name) for name in raw))
    found = listed("-", stdin=stdin, null_separated=True)
    assert [(os.path.basename(os.fsencode(s.name)), s.problem) for s in found] == [(n, None) for n in raw]


@pytest.mark.parametrize("null", [False, True])
def test_a_list_reads_the_same_however_it_is_cut_into_blocks(null):
    rng = random.Random(0)
    body = "".join(rng.choice("ab \n\r\0") for _ in range(4000)).encode()

    class Dribble(io.RawIOBase):
        at = 0

        def read(self, n=-1):
            start, self.at = self.at, self.at + rng.randint(1, 9)
            return body[start : self.at]

    naive = body.split(b"\0") if null else [line.removesuffix(b"\r") for line in body.split(b"\n")]
    assert list(read_names(Dribble(), null)) == [name for name in naive if name]


def test_the_first_name_is_usable_before_the_list_ends():
    reader, writer = os.pipe()
    with open(reader, "rb") as stream, open(writer, "wb", buffering=0) as out:
        sources = list_sources(SourceQuery(("-",)), stdin=stream)
        out.write(b"/nowhere/1\n/nowh")
        assert next(sources).name == "/nowhere/1"


def test_a_list_in_a_file_may_name_folders(tree):
    (tree / "list").write_bytes(b"a\r\n\nb.jpg")
    assert names(files_from="list") == ["a/1.png", "a/2.JPG", "a/deep/x.txt", "b.jpg"]


def test_shards_are_a_partition_that_ignores_position(tree):
    whole = names(".")
    parts = [names(".", shard=(i, 3)) for i in (1, 2, 3)]
    assert sorted(sum(parts, [])) == sorted(whole)
    assert [n for n in reversed(whole) if in_shard(n, (2, 3))] == parts[1][::-1]


def test_shards_are_parsed_or_refused():
    assert parse_shard("3/16") == (3, 16)
    for wrong in ("0/4", "5/4", "1", "a/b", "1/0", "-1/3", "1/2/3", ""):
        with pytest.raises(UsageError, match="I/N"):
            parse_shard(wrong)


def test_lists_that_cannot_be_read_are_usage_errors(tmp_path):
    for options in ({"files_from": str(tmp_path / "no")}, {"files_from": str(tmp_path)}, {"files_from": "-"}):
        with pytest.raises(UsageError):
            list_sources(SourceQuery((), **options), stdin=None)
    with pytest.raises(UsageError, match="once"):
        list_sources(SourceQuery(("-", "-")), stdin=io.BytesIO())
    with pytest.raises(UsageError, match="not a list of names"):
        listed(files_from="/dev/zero")


def test_an_option_names_folders_and_lists_of_either_kind(tree, tmp_path):
    lines, zeros = tmp_path / "lines.txt", tmp_path / "zeros.txt"
    odd = os.fsdecode(b"odd-\xff\n.jpg")
    lines.write_bytes(b"one.jpg\r\ntwo.jpg\n")
    zeros.write_bytes(os.fsencode(odd) + b"\0three.jpg\0")
    given = [f"@{zeros}", "-", f"@{lines}"]
    found = list_option(given, stdin=io.BytesIO(b"from-stdin.jpg\n"))
    assert [source.name for source in found] == ["from-stdin.jpg", odd, "three.jpg", "one.jpg", "two.jpg"]
    for wrong, said in (
        (["@"], "name of a list"),
        (["@none.txt"], "list of names none.txt"),
        (["none"], "no such"),
    ):
        with pytest.raises(UsageError, match=said):
            list_option(wrong, stdin=None)  # at once: nothing is asked of what it returns


def test_a_folder_that_begins_with_at_is_given_with_a_dot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "@photos").mkdir()
    (tmp_path / "@photos" / "a.jpg").touch()
    assert [source.name for source in list_option(["./@photos"], stdin=None)] == ["./@photos/a.jpg"]
