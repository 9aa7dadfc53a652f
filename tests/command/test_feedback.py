"""``bladescan feedback``, as it is called."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.feedback.decided import AI, PHOTO, decision, scan_of, spread, write_lines
from tests.reviewing.reviews import drawn, face, image, sha256, write_rows


@pytest.fixture
def reviewed(tmp_path, monkeypatch):
    """A scan of 100 faces: all 20 flagged ones were looked at, and every fourth of the others."""
    monkeypatch.chdir(tmp_path)
    scores = [*spread(20, 2.5, 9), *spread(80, -5, 1.5)]
    decided = {number: AI if number > 4 else PHOTO for number in range(20)}
    scan_of(tmp_path, scores, decided | {20 + 4 * number: PHOTO if number else AI for number in range(20)})
    return tmp_path


def ask(in_process, *arguments):
    done = in_process("feedback", *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_what_was_looked_at_and_what_follows_for_the_scan(in_process, reviewed):
    found = ask(in_process, "d.jsonl", "--verdicts", "v.jsonl")
    assert found["decisions"] | {"photographic": 24, "ai-generated": 16, "unsure": 0} == found["decisions"]
    shares = found["reviewed"]
    assert (shares["false_among_flagged"]["count"], shares["false_among_flagged"]["n"]) == (5, 20)
    assert (shares["missed_among_not_flagged"]["count"], shares["missed_among_not_flagged"]["n"]) == (1, 20)
    # One miss of 20 looked at stands for 4 of 80: 5 of 5 + 76 photographs are flagged, 4 of 19 missed.
    assert found["scan"]["false_alarm"]["estimate"] == pytest.approx(5 / 81)
    assert found["scan"]["missed"]["estimate"] == pytest.approx(4 / 19)
    low, high = found["scan"]["missed"]["interval_95"]
    assert low < 4 / 19 < high < 1
    assert found["scan"]["false_among_flagged"]["interval_95"] == [0.25, 0.25]  # all flagged ones are known
    assert sum(band["n"] for band in found["by_score"]) == found["scan"]["n_faces"] == 100


def test_without_verdicts_only_what_was_looked_at_is_told(in_process, reviewed):
    found = ask(in_process, "d.jsonl")
    assert found["scan"] is None and found["threshold"] is None
    assert any("need its verdicts: --verdicts FILE" in line for line in found["notices"])


def test_what_was_not_looked_at_is_called_unknown(in_process, reviewed):
    lines = (reviewed / "d.jsonl").read_text().splitlines(keepends=True)
    (reviewed / "top.jsonl").write_text("".join(lines[:20]))
    done = in_process("feedback", "top.jsonl", "--verdicts", "v.jsonl", "--lists", "lists")
    assert done.exit_code == 0, done.output
    assert "misses are unknown. Review some, at random." in done.output
    assert (
        "Of the 80 faces with verdict not-flagged and a score from -5 to 1.5 none was reviewed" in done.output
    )
    assert "takes 80 faces that nobody reviewed for photographs" in done.output
    assert "No calibration.txt was written" in done.output
    assert "AI-generated faces that were not (misses)" in done.output and "unknown" in done.output


def test_faces_by_folder_and_names_that_steer_a_terminal(in_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["a/1.png", "a/2.png", "[bold]\x1b[31m/3.png"]
    write_rows(tmp_path / "v.jsonl", [image(name, face(3.0)) for name in names])
    words = (PHOTO, AI, AI)
    write_lines(
        tmp_path / "d.jsonl",
        [decision(*each, verdict=AI, score=3.0) for each in zip(names, words, strict=True)],
    )
    found = ask(in_process, "d.jsonl", "--verdicts", "v.jsonl")["by_folder"]
    counts = {
        each["folder"]: (each["false_among_flagged"]["count"], each["false_among_flagged"]["n"])
        for each in found
    }
    assert counts == {"a": (1, 2), "[bold]\x1b[31m": (0, 1)}
    shown = in_process("feedback", "d.jsonl").output
    assert "[bold]\\x1b[31m" in shown and "\x1b" not in shown


def test_near_duplicates_that_nobody_looked_at_are_no_evidence(in_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "v.jsonl", [image(f"{number}.png", face(3.0)) for number in range(5)])
    lines = [
        decision(f"{number}.png", AI, looked_at=number == 0, verdict=AI, score=3.0) for number in range(4)
    ]
    write_lines(tmp_path / "d.jsonl", [*lines, decision("other.png", AI)])
    found = ask(in_process, "d.jsonl", "--verdicts", "v.jsonl")
    assert found["scan"]["n_faces"] == 2 and found["reviewed"]["false_among_flagged"]["n"] == 1
    assert found["decisions"]["not_looked_at"] == 3 and found["decisions"]["not_in_verdicts"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.jsonl"], "none.jsonl: no such file"),
        (["v.jsonl"], "verdicts and no decisions: give them as --verdicts"),
        (["d.jsonl", "--verdicts", "d.jsonl"], "no verdicts"),
        (["d.jsonl", "--lists", "."], "--lists .: expected a new or empty folder"),
        (["d.jsonl", "--lists", "no/lists"], "there is no folder no"),
        (["d.jsonl", "--false-alarm", "2"], "between 0 and 1"),
        (["d.jsonl", "--verdicts", "v.jsonl", "--verdicts", "other.jsonl"], "several heads or thresholds"),
    ],
)
def test_what_cannot_be_is_one_line(in_process, reviewed, arguments, said):
    write_rows(reviewed / "other.jsonl", [image("x.png", face(1.0) | {"threshold": 9.0})])
    done = in_process("feedback", *arguments)
    assert done.exit_code == 2 and said in done.output and len(done.output.splitlines()) == 1


def test_a_list_calibrates_as_its_folder_does(in_process, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    files = [drawn(folder / f"{number:02}.png", number) for number in range(22)]
    lines = [decision(file, PHOTO, sha256=sha256(file)) for file in files[:20]]
    write_lines(
        tmp_path / "d.jsonl", [*lines, *(decision(file, AI, sha256=sha256(file)) for file in files[20:])]
    )
    done = in_process("feedback", tmp_path / "d.jsonl", "--lists", tmp_path / "lists")
    assert "photographs.txt 20 pictures, ai-generated.txt 2 pictures" in done.output, done.output
    alone = tmp_path / "alone" / "pictures"
    shutil.copytree(folder, alone)
    for file in files[20:]:
        (alone / file.name).unlink()
    told = []
    for photos in (f"@{tmp_path / 'lists' / 'photographs.txt'}", alone):
        options = ("--faces", "none", "--name", "mine", "-o", tmp_path / "mine.onnx")
        done = in_process("calibrate", "--photos", photos, *options)
        assert done.exit_code == 0, done.output
        told.append((tmp_path / "mine.onnx").read_bytes())
    assert told[0] == told[1]
