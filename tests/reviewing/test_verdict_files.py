"""Verdicts read back: all formats say the same, and what is wrong with a file is said."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from bladescan.base.errors import DataError, UsageError
from bladescan.base.provenance_record import Provenance
from bladescan.base.records import (
    ComponentVerdict,
    Explanation,
    FaceBox,
    FaceVerdict,
    FlaggedBy,
    ImageRecord,
    Reason,
    Verdict,
)
from bladescan.outputs.formats import OUTPUT_FORMATS
from bladescan.outputs.run import SCHEMA_VERSION, RunInfo, RunSummary
from bladescan.reviewing.verdict_files import open_verdicts
from tests.reviewing.reviews import END, RUN, explanation, face, image, write_rows

INFO = RunInfo("1", "detector", "ab" * 32, "onnx", "cpu", "yunet", "binary", 0.05, None, 2.25, "2026-01-02")
GRID = ((0.5, -0.25), (0.0, 1.5))
EXPLAINED = Explanation(
    GRID, (1.0, 2.0, 15.5, 20.0), "lower left", 1.75, 737, 3, stability=0.5, flips=("left", "up")
)
SUMMARY = RunSummary(4, 3, complete=True)
BOX = FaceBox(1.5, 2, 30, 40, 0.9, rotation=90)
FACE = FaceVerdict(0, BOX, -600.5, 0.98, 0.01, Verdict.AI_GENERATED, "binary", 3.89182, 2.25, 0.011)
FACE = replace(FACE, explanation=EXPLAINED)
ODD = os.fsdecode(b'odd-\xff, "quoted"\n.jpg')
RECORDS = [
    ImageRecord("a.jpg", Verdict.AI_GENERATED, format="JPEG", width=60, height=50, n_frames=1,
                faces=(FACE, replace(FACE, box=None, verdict=Verdict.NOT_FLAGGED, threshold=None)),
                flagged_by=FlaggedBy.DETECTOR, provenance=Provenance("ai-generated", "png-text", "Tool")),
    ImageRecord("a.jpg", Verdict.NO_FACE, format="JPEG", width=60, height=50, n_frames=1),
    ImageRecord(ODD, Verdict.UNREADABLE, Reason.TRUNCATED, "cut off"),
    ImageRecord("=b.jpg", Verdict.NOT_FLAGGED, format="GIF", width=9, height=9, n_frames=3, faces=(FACE,)),
]  # fmt: skip


def explained(**wrong):
    return json.dumps(explanation() | wrong)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verdicts")
    for known in OUTPUT_FORMATS.values():
        if known.suffixes:
            format = known.make(INFO, False)
            pieces = [format.begin(), *map(format.record, RECORDS), format.end(SUMMARY)]
            (folder / f"v{known.suffixes[0]}").write_bytes(b"".join(pieces))
    return folder


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_every_format_gives_the_same_images_back(written, suffix):
    opened = open_verdicts(written / f"v.{suffix}")
    first, second, odd, formula = opened.images
    assert odd.path == ODD and formula.path == ("./=b.jpg" if suffix == "csv" else "=b.jpg")
    assert (first.verdict, first.declared, first.declared_tool) == ("ai-generated", "ai-generated", "Tool")
    assert (first.width, first.height, first.format, first.flagged_by) == (60, 50, "JPEG", "detector")
    one, other = first.faces
    assert one.box == (1.5, 2.0, 30.0, 40.0) and one.rotation == 90 and one.face == 0
    assert (one.head, one.score, one.threshold, one.p_value) == ("binary", 3.89182, 2.25, 0.01)
    assert one.verdict == "ai-generated" and other.verdict == "not-flagged"
    assert other.box is None and other.threshold is None and other.face == 1
    told = one.explanation
    assert (told.grid, told.region, told.where, told.fall) == (GRID, EXPLAINED.region, "lower left", 1.75)
    assert (told.stability, told.flips, told.n_as_suspicious) == (0.5, ("left", "up"), 3)
    assert second.path == "a.jpg" and second.faces == ()  # a source listed twice is two images
    assert (odd.verdict, odd.reason, odd.detail) == ("unreadable", "truncated", "cut off")
    assert opened.run.detector == ("" if suffix == "csv" else "detector")
    assert opened.cautions == []


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_every_format_gives_back_what_each_of_several_detectors_says(tmp_path, suffix):
    alone = (ComponentVerdict("fast", 1.5, 0.25), ComponentVerdict("odd_p_value", -2.0, 0.5))
    records = [replace(RECORDS[3], faces=(replace(FACE, components=alone),)), RECORDS[1]]
    known = next(one for one in OUTPUT_FORMATS.values() if f".{suffix}" in one.suffixes)
    format = known.make(replace(INFO, components=("fast", "odd_p_value")), False)
    pieces = [format.begin(), *map(format.record, records), format.end(SUMMARY)]
    (tmp_path / f"v.{suffix}").write_bytes(b"".join(pieces))
    first, _ = open_verdicts(tmp_path / f"v.{suffix}").images
    found = {name: (one.score, one.p_value) for name, one in first.faces[0].components.items()}
    assert found == {"fast": (1.5, 0.25), "odd_p_value": (-2.0, 0.5)}


def test_verdicts_that_are_not_all_there_say_so(tmp_path, written):
    lines = (written / "v.jsonl").read_bytes().splitlines()
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"\n".join(lines[:2]) + b"\n")
    opened = open_verdicts(cut)
    assert len(list(opened.images)) == 1
    assert opened.cautions == ["The file of verdicts ends early: what it does not list was not looked at."]
    stopped = write_rows(tmp_path / "stopped.jsonl", [])
    stopped.write_text(json.dumps(RUN) + "\n" + json.dumps(END | {"complete": False, "reason": "SIGTERM"}))
    opened = open_verdicts(stopped)
    assert list(opened.images) == [] and "did not end (SIGTERM)" in opened.cautions[0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("v.txt", b"", "expected verdicts in a file that ends in .csv"),
        ("v.csv", b"name,score\na,1\n", "no column 'face'"),
        ("v.csv", b"path,verdict,face,face_verdict\na,b,first,c\n", "no verdict as bladescan writes it"),
        ("v.csv", b"path,verdict,face,face_verdict\n\xff,b,,\n", "can't decode byte 0xff"),
        ("v.csv", b"path,verdict,face,face_verdict\na,b,0,c\na,b,0", "line 3: not as many cells as columns"),
        ("v.csv", b"path,verdict,face,face_verdict\na,b,0,c,d\n", "line 2: not as many cells as columns"),
        ("v.jsonl", b'{"type":"image"}\n', "the first line of JSON Lines should be that of the run"),
        ("v.jsonl", b"{\n", "line 1: not JSON, or cut off"),
        ("v.jsonl", json.dumps(RUN).encode() + b'\n{"type":"image","path":3}\n', "line 2: no verdict"),
        ("v.json", b'{"run":{}}', "no list of images"),
        ("v.json", b"[" * 100_000, "not JSON, or cut off"),
        ("v.parquet", b"PAR1", "not a Parquet file, or cut off"),
    ],
)
def test_a_file_that_holds_no_verdicts_is_an_error_that_says_why(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, UsageError)) as caught:
        list(open_verdicts(tmp_path / name).images)
    assert said in str(caught.value) and name in str(caught.value)


def test_a_newer_schema_and_a_missing_file_are_refused(tmp_path):
    newer = write_rows(tmp_path / "v.jsonl", [], run=RUN | {"schema_version": SCHEMA_VERSION + 1})
    with pytest.raises(DataError, match="written by a newer bladescan"):
        open_verdicts(newer)
    with pytest.raises(UsageError, match="no such file"):
        open_verdicts(tmp_path / "none.csv")


def test_what_a_later_version_adds_is_left_alone(tmp_path):
    row = image("a.png", face(1.0) | {"new": 1}, new=[1])
    assert next(open_verdicts(write_rows(tmp_path / "v.jsonl", [row])).images).faces[0].score == 1.0


@pytest.mark.parametrize(
    "wrong",
    ["{", "[]", '"x"', '{"where": 3}', explained(grid=[[1e999]]), explained(grid=[[0.0] * 33]),
     explained(fall="x"), explained(region=[1, 2, 3])],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_an_explanation_that_is_none_is_an_error_that_names_its_place(tmp_path, wrong, suffix):
    if suffix == "csv":
        path = tmp_path / "v.csv"
        quoted = wrong.replace('"', '""')
        path.write_text(f'path,verdict,face,face_verdict,explanation\na,b,0,c,"{quoted}"\n')
    elif wrong == "{":
        return
    else:
        rows = [image("a", face(9.0) | {"explanation": json.loads(wrong)})]
        path = write_rows(tmp_path / "v.jsonl", rows)
    with pytest.raises(DataError, match="v.(csv: the last row|jsonl: line 2)"):
        list(open_verdicts(path).images)
