"""``bladescan feedback``, as it is called."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bladescan.reviewing.deck import LOOKS
from tests.command.test_report import cards
from tests.feedback.decided import AI, AT, PHOTO, UNSURE, decision, scan_of, spread, write_lines
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


def decide(page, words, output):
    """Export what a reviewer decides on the cards of a page, by name of the picture."""
    lines = []
    for card in cards(page):
        word = words.get(os.path.basename(card["path"]))
        for shown in (card, *card["copies"]) if word else ():
            told = {name: shown.get(name) for name in ("sha256", "face", "path", "verdict", "score", *LOOKS)}
            lines.append(told | {"schema": 1, "decision": word, "decided_at": AT, "looked_at": shown is card})
    return write_lines(output, lines)


def scan(in_process, *options):
    """Scan with a ledger; return the exit code, the rows, and the page that it makes."""
    shutil.rmtree("page", ignore_errors=True)
    arguments = ("scan", "in", "--faces", "none", "--ledger", "l", "-o", "v.jsonl", "--report", "page.html")
    done = in_process(*arguments, *options)
    assert "error" not in done.output.lower(), done.output
    lines = [json.loads(line) for line in Path("v.jsonl").read_text().splitlines()]
    rows = {os.path.basename(line["path"]): line for line in lines if line["type"] == "image"}
    return done.exit_code, rows, {os.path.basename(card["path"]): card for card in cards(Path("page.html"))}


def test_what_was_decided_is_not_asked_again_and_no_verdict_changes(in_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for number, name in enumerate(("photo", "fake", "doubt")):
        drawn(tmp_path / "in" / f"{name}.png", number, side=128)
    code, before, shown = scan(in_process, "--false-alarm", "0.99")
    assert code == 1 and {row["verdict"] for row in before.values()} == {AI} and len(shown) == 3
    decide(Path("page.html"), {"photo.png": PHOTO, "fake.png": AI, "doubt.png": UNSURE}, tmp_path / "d.jsonl")
    assert ask(in_process, "d.jsonl", "--ledger", "l")["ledger"]["new"] == 3
    assert ask(in_process, "d.jsonl", "--ledger", "l")["ledger"]["known"] == 3

    # Tomorrow: one under another name, near-duplicates of two.
    os.rename("in/photo.png", "in/renamed.png")
    for name in ("renamed", "fake"):
        with Image.open(f"in/{name}.png") as picture:
            picture.save(f"in/like-{name}.jpg", quality=85)
    code, after, shown = scan(in_process, "--false-alarm", "0.99")
    decided = {name: row["faces"][0]["decision"] for name, row in after.items()}
    assert decided == {
        **{"renamed.png": PHOTO, "fake.png": AI, "doubt.png": UNSURE},
        **{"like-renamed.jpg": None, "like-fake.jpg": None},
    }
    assert {row["verdict"] for row in after.values()} == {AI} and code == 1
    assert after["fake.png"]["faces"][0]["decided_at"] == AT
    assert set(shown) == {
        "doubt.png",
        "like-renamed.jpg",
    }  # what only looks like a cleared one is asked about
    assert shown["like-renamed.jpg"]["earlier"].startswith(
        "photographic on 2026-11-27, of a picture that looks"
    )
    assert (
        "3 decided earlier have no card, 1 as near-duplicates of AI-generated ones."
        in Path("page.html").read_text()
    )
    done = in_process("report", "v.jsonl", "-o", "all.html", "--ledger", "l", "--decided")
    assert "5 rows" in done.output, done.output

    # The exit code heeds decisions if it is told to, and only those on the very file.
    for left, expected in (({"renamed.png"}, 0), ({"renamed.png", "like-renamed.jpg"}, 1), ({"fake.png"}, 1)):
        Path("some").mkdir()
        for name in left:
            shutil.copy(f"in/{name}", f"some/{name}")
        options = ("--faces", "none", "--false-alarm", "0.99", "--ledger", "l", "--fail-on", "reviewed")
        assert in_process("scan", "some", *options, "-o", "some.csv").exit_code == expected, left
        shutil.rmtree("some")
    counts = json.loads(in_process("ledger", "counts", "l", "--json").stdout)
    assert counts["decisions"] == {PHOTO: 1, AI: 1, UNSURE: 1}
    done = in_process("ledger", "export", "l", "-o", "export.csv")
    assert done.exit_code == 0 and f",{PHOTO},{AT}," in Path("export.csv").read_text(), done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scan", ".", "--fail-on", "reviewed"], "--fail-on reviewed needs --ledger FILE"),
        (["scan", ".", "--fail-on", "flagged,reviewed", "--ledger", "l"], "takes the place of flagged"),
        (["report", "v.jsonl", "-o", "r.html", "--decided"], "--decided needs --ledger FILE"),
        (["report", "v.jsonl", "-o", "r.html", "--ledger", "none"], "none: no such ledger"),
        (["feedback", "d.jsonl", "--ledger", "v.jsonl"], "is not a ledger"),
    ],
)
def test_a_ledger_that_is_missing_or_none_is_one_line(in_process, reviewed, arguments, said):
    done = in_process(*arguments)
    assert done.exit_code == 2 and said in done.output, done.output
