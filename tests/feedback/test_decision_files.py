"""Decisions are read from what a review exports, and nothing else is."""

from __future__ import annotations

import csv
import json
import os

import pytest

from bladescan.base.errors import DataError, UsageError
from bladescan.feedback.decision_files import read_decisions
from tests.feedback.decided import AI, AT, PHOTO, UNSURE, decision, digest, write_lines

HEADER = "schema,sha256,face,path,decision,decided_at\n"
LATER = "2026-11-28T12:00:00+00:00"


def write_table(path, lines):
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, list(lines[0]))
        table.writeheader()
        for line in lines:
            cells = {"looked_at": str(line["looked_at"]).lower(), "place": " ".join(map(str, line["place"]))}
            table.writerow(line | cells)
    return path


def test_both_formats_say_the_same(tmp_path):
    lines = [decision("a.jpg", PHOTO), decision("b, c.jpg", AI, face=3, looked_at=False, score=-1.5)]
    plain = read_decisions([write_lines(tmp_path / "d.jsonl", lines)])
    table = read_decisions([write_table(tmp_path / "d.csv", lines)])
    assert plain == table and plain.n_lines == 2
    one = plain.faces[lines[1]["sha256"], 3]
    assert (one.path, one.decision, one.looked_at, one.score) == ("b, c.jpg", AI, False, -1.5)
    assert (one.place, one.picture_hash, one.crop_hash) == ((0.2, 0.2, 0.8, 0.8), 0, 2**64 - 1)


def test_the_latest_decision_on_a_face_counts_in_whichever_file_it_is(tmp_path):
    old, new = decision("a.jpg", AI), decision("a.jpg", PHOTO, decided_at=LATER)
    files = [write_lines(tmp_path / f"{name}.jsonl", [line]) for name, line in (("old", old), ("new", new))]
    for order in (files, files[::-1]):
        found = read_decisions(order)
        assert [one.decision for one in found.faces.values()] == [PHOTO]
        assert (found.n_lines, found.n_replaced) == (2, 1)


def test_a_decision_on_a_near_duplicate_takes_no_place_of_one_on_the_face_itself(tmp_path):
    lines = [decision("a.jpg", AI), decision("a.jpg", PHOTO, decided_at=LATER, looked_at=False)]
    found = read_decisions([write_lines(tmp_path / "d.jsonl", lines)])
    assert [one.decision for one in found.faces.values()] == [AI]


def test_equal_files_at_two_places_are_one_decision(tmp_path):
    lines = [decision(path, AI, sha256=digest(1)) for path in ("a.jpg", "b.jpg")]
    found = read_decisions([write_lines(tmp_path / "d.jsonl", lines)])
    assert list(found.paths.values()) == [["a.jpg", "b.jpg"]] and found.n_replaced == 0


def test_faces_of_one_file_and_files_that_could_not_be_read_are_told_apart(tmp_path):
    lines = [decision("a.jpg", AI), decision("a.jpg", PHOTO, face=1), decision("a.jpg", UNSURE, face=None)]
    lines += [decision(path, AI, sha256="", face=None) for path in ("lost.jpg", "gone.jpg")]
    assert len(read_decisions([write_lines(tmp_path / "d.jsonl", lines)]).faces) == 5


def test_a_table_saved_by_a_spreadsheet_has_a_byte_order_mark(tmp_path):
    saved = write_table(tmp_path / "d.csv", [decision("a.jpg", AI)])
    plain = read_decisions([saved])
    saved.write_bytes(b"\xef\xbb\xbf" + saved.read_bytes())
    assert read_decisions([saved]) == plain


def test_a_name_that_is_not_utf8_survives_both_formats(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = os.fsdecode(b"odd-\xff.jpg")
    open(odd, "w").close()
    plain = read_decisions([write_lines(tmp_path / "d.jsonl", [decision(odd, AI)])])
    table = read_decisions([write_table(tmp_path / "d.csv", [decision("odd-\\xff.jpg", AI)])])
    assert [*plain.paths.values()] == [*table.paths.values()] == [[odd]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decision": "fake"}, "unknown decision 'fake'. Known: photographic, ai-generated, unsure"),
        ({"decision": ["unsure"]}, "unknown decision"),
        ({"schema": 2}, "exported by a newer bladescan"),
        ({"schema": None}, "its schema is None"),
        ({"schema": True}, "its schema is True"),
        ({"sha256": "abc"}, "sha256 is 'abc'"),
        ({"face": -1}, "face is -1"),
        ({"face": "0"}, "face is '0'"),
        ({"path": None}, "path is None"),
        ({"decided_at": "yesterday"}, "decided_at 'yesterday' is no time"),
        ({"decided_at": "2026-11-27T12:00:00"}, "has no time zone"),
        ({"decided_at": None}, "is no time"),
        ({"score": float("nan")}, "score is nan"),
        ({"looked_at": 1}, "looked_at is 1"),
        ({"place": [0, 1, 2]}, "place is"),
        ({"crop_hash": "F" * 16}, "crop_hash is"),
    ],
)
def test_what_is_no_decision_is_named_with_its_line(tmp_path, change, said):
    file = write_lines(tmp_path / "d.jsonl", [decision("a.jpg", AI), decision("b.jpg", AI) | change])
    with pytest.raises(DataError) as caught:
        read_decisions([file])
    assert f"{file}: line 2: " in str(caught.value) and said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("d.jsonl", b"", "no decision in it"),
        ("d.csv", b"", "no decision in it"),
        ("d.csv", HEADER.encode(), "no decision in it"),
        ("d.jsonl", json.dumps(decision("a", AI)).encode()[:-9], "line 1: not JSON, or cut off"),
        ("d.jsonl", b"[1]\n", "expected a JSON object"),
        ("d.jsonl", b"\xff\xfe\n", "not JSON"),
        ("d.jsonl", b'{"type": "run"}\n', "verdicts and no decisions: give them as --verdicts"),
        ("d.csv", b"path,verdict,face,face_verdict\n", "verdicts and no decisions"),
        ("d.csv", b"path,face\n", "no decisions: it has no column 'decided_at'"),
        ("d.csv", HEADER.encode() + b"1,,0,a.j", "not as many cells"),
        ("d.csv", f"{HEADER}one,,0,a,{AI},{AT}\n".encode(), "schema 'one'"),
        ("d.csv", b"schema,\xff\n", "line 1"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_error(tmp_path, name, data, said):
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(DataError, match=said):
        read_decisions([file])


def test_a_file_that_is_not_there_or_of_another_kind_is_a_usage_error(tmp_path):
    for name, said in (("none.jsonl", "no such file"), ("d.json", "ends in .jsonl or .csv")):
        with pytest.raises(UsageError, match=said):
            read_decisions([tmp_path / name])
