"""A review from verdicts to its file or folder: which cards, in which order, and what the page may do."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from bladescan.base.errors import DataError, UsageError
from bladescan.command.report import calibration_of
from bladescan.detectors.suspicion import suspicion, suspicion_threshold
from bladescan.reviewing import review
from bladescan.reviewing.byte_spool import open_byte_spool
from bladescan.reviewing.html_page import as_inert_json
from bladescan.reviewing.review import ReviewOptions, write_review
from bladescan.reviewing.score_curve import score_curve
from bladescan.reviewing.weak_spots import Spot
from tests.reviewing.reviews import big_page, drawn, face, hostile_names, image, unreadable, write_rows


def data(page: str, name: str) -> dict:
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page)[1])


def column(page: str, name: str) -> np.ndarray:
    kind, text = data(page, "deck")["columns"][name]
    return np.frombuffer(base64.b64decode(text), kind)


@pytest.fixture
def rows(tmp_path):
    files = [drawn(tmp_path / f"{i}.png", i) for i in range(4)]
    return [
        image(files[0], face(-1.0)),
        image(files[1], face(5.0), face(6.5, (1, 1, 30, 30), 1)),
        unreadable(tmp_path / "none.png", "not-found"),
        image(files[2]),
        image(files[3], face(float(3))),
    ]


def test_a_picture_as_a_whole_has_a_card_without_a_box_and_stands_by_its_p_value(tmp_path):
    files = [drawn(tmp_path / f"{i}.png", i) for i in range(3)]
    whole = {"subject": "image", "tiles": 4, "coverage": 0.5}
    pairs = [
        (
            face(3.0) | {"p_smooth": 0.3},
            face(90.0, None, 1) | whole | {"p_smooth": 0.02, "threshold": 80.0},
        ),
        (
            face(4.0) | {"p_smooth": 0.04},
            face(85.0, None, 1) | whole | {"p_smooth": 0.2, "threshold": 80.0},
        ),
    ]
    rows = [image(path, *pair) for path, pair in zip(files, pairs, strict=False)]
    write_review(write_rows(tmp_path / "v.jsonl", rows), ReviewOptions(tmp_path / "r.html"))
    cards = data((tmp_path / "r.html").read_text(), "rows-0")["cards"]
    assert [card["score"] for card in cards] == [90.0, 4.0, 85.0, 3.0]  # by 0.02, 0.04, 0.2, 0.3
    assert [card.get("subject") for card in cards] == ["image", None, "image", None]
    assert [("place" in card, card.get("tiles")) for card in cards[:2]] == [(False, 4), (True, None)]
    assert all(card["crop"] for card in cards)


def test_cards_stand_by_suspicion_and_columns_agree_with_them(rows, tmp_path):
    counts = write_review(write_rows(tmp_path / "v.jsonl", rows), ReviewOptions(tmp_path / "r.html"))
    assert (counts.n_cards, counts.n_rows, counts.n_missing) == (6, 6, 0)
    page = (tmp_path / "r.html").read_text()
    cards = data(page, "rows-0")["cards"]
    assert [card["score"] for card in cards] == [6.5, 5.0, 3.0, -1.0, None, None]
    assert [card["verdict"] for card in cards[3:]] == ["not-flagged", "unreadable", "no-face"]
    scores = column(page, "score")
    assert scores[:4].tolist() == [6.5, 5.0, 3.0, -1.0] and np.isnan(scores[4:]).all()
    words = data(page, "deck")["words"]["verdict"]
    assert [words[code] for code in column(page, "verdict")] == [card["verdict"] for card in cards]
    assert column(page, "side").tolist() == [29, 65, 65, 65, 0, 0]
    assert column(page, "listed").tolist() == [2, 1, 5, 0, 3, 4]
    assert cards[0]["place"] == pytest.approx([1 / 96, 1 / 96, 30 / 96, 30 / 96], abs=1e-4)
    assert cards[0]["picture"] == cards[1]["picture"] and len(data(page, "rows-0")["pictures"]) == 4


def test_a_missing_and_a_changed_source_are_told_apart(rows, tmp_path):
    yesterday = datetime.now(UTC) - timedelta(days=1)
    run = {"type": "run", "started": yesterday.isoformat()}
    verdicts = write_rows(tmp_path / "v.jsonl", rows, run=run)
    for name in ("0.png", "3.png"):
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / "2.png", (0, 0))
    drawn(tmp_path / "3.png", 9, side=50)  # another size
    os.utime(tmp_path / "3.png", (0, 0))
    (tmp_path / "0.png").unlink()
    counts = write_review(verdicts, ReviewOptions(tmp_path / "r.html"))
    page = (tmp_path / "r.html").read_text()
    labels = {spot["bit"]: spot["label"] for spot in data(page, "deck")["spots"]}
    names = [os.path.basename(card["path"]) for card in data(page, "rows-0")["cards"]]
    found = [labels.get(bits & 24, "") for bits in column(page, "spots").tolist()]
    assert dict(zip(names, found, strict=True)) == {
        "1.png": "changed", "3.png": "changed", "0.png": "missing", "none.png": "", "2.png": "",
    }  # fmt: skip
    assert counts.n_missing == 1


def test_a_run_whose_clock_was_stopped_changes_no_file(rows, tmp_path):
    run = {"type": "run", "started": "1970-01-01T00:00:00+00:00"}
    write_review(write_rows(tmp_path / "v.jsonl", rows, run=run), ReviewOptions(tmp_path / "r.html"))
    assert not (column((tmp_path / "r.html").read_text(), "spots") & int(Spot.CHANGED)).any()


def test_a_folder_holds_the_same_cards_and_the_same_page_twice(rows, tmp_path):
    verdicts = write_rows(tmp_path / "v.jsonl", rows)
    write_review(verdicts, ReviewOptions(tmp_path / "r.html"))
    pages = [write_review(verdicts, ReviewOptions(tmp_path / name)).page for name in ("one", "two")]
    assert pages[0] == tmp_path / "one" / "index.html" and pages[0].read_bytes() == pages[1].read_bytes()
    text = (tmp_path / "one" / "rows" / "00000.js").read_text()
    start, inside, end = text.partition("bladescanRows(0,")[1:] + ("",)
    assert json.loads(inside.removesuffix(");\n")) == data((tmp_path / "r.html").read_text(), "rows-0")
    assert data(pages[0].read_text(), "deck")["id"] == data((tmp_path / "r.html").read_text(), "deck")["id"]


@pytest.mark.parametrize("name", ["r.html", "folder"])
def test_the_policy_lets_in_this_script_and_this_style_and_nothing_else(rows, tmp_path, name):
    found = write_review(write_rows(tmp_path / "v.jsonl", rows), ReviewOptions(tmp_path / name)).page
    page = found.read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)[1].replace("&#39;", "'")
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == "'none'" and allowed["img-src"] == "data:"

    def digest(tag):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[1]
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert allowed["style-src"] == digest("style")
    assert allowed["script-src"].split() == [
        digest("script"),
        *([] if name == "r.html" else ["'strict-dynamic'"]),
    ]
    outside = re.findall(r"""(?:src|href|action)\s*=\s*["']?(?!#)[^"'>\s]+""", page.split("<script")[0])
    assert outside == [] and "url(" not in page and "@import" not in page


def test_inert_json_holds_no_character_of_markup():
    for name in hostile_names():
        text = as_inert_json({"path": name})
        assert not set("<>&'\u2028\u2029") & set(text) and text.isascii()
        assert os.fsencode(json.loads(text)["path"]) == os.fsencode(name)


def test_too_many_faces_for_a_file_are_an_error_that_names_a_folder(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(review, "MOST_IN_FILE", 2)
    verdicts = write_rows(tmp_path / "v.jsonl", rows)
    with pytest.raises(UsageError, match=r"give the name of a folder, for example .*/r$"):
        write_review(verdicts, ReviewOptions(tmp_path / "r.html"))
    assert not (tmp_path / "r.html").exists()
    assert write_review(verdicts, ReviewOptions(tmp_path / "r")).n_cards == 6


def test_verdicts_of_nothing_are_an_error(tmp_path):
    with pytest.raises(DataError, match="no image was scanned"):
        write_review(write_rows(tmp_path / "v.jsonl", []), ReviewOptions(tmp_path / "r.html"))


def test_copies_stand_behind_the_most_suspicious_of_them(tmp_path):
    with open_byte_spool() as spool:
        counts = big_page(tmp_path / "r.html", 3, copies=40, spool=spool)
    assert (counts.n_cards, counts.n_rows) == (3, 120)
    page = (tmp_path / "r.html").read_text()
    assert column(page, "copies").tolist() == [39, 39, 39]
    for card in data(page, "rows-0")["cards"]:
        scores = [card["score"], *(copy["score"] for copy in card["copies"])]
        assert len(scores) == 40 and scores == sorted(scores, reverse=True)


def test_the_histogram_is_that_of_the_detector_that_made_the_verdicts():
    manifest = calibration_of(None)
    head = manifest.heads["binary"]
    curve = score_curve(manifest, "binary", None)
    held = suspicion(head.calibration, "binary")
    assert curve.low < held.min() and curve.high > held.max() and max(curve.heights) == 1.0
    assert curve.n_photographs == head.n_held_out and len(curve.heights) == 32
    assert score_curve(manifest, "no such head", None) is None
    far = score_curve(manifest, "binary", 1e9)
    assert far.high < 1000  # one face far out does not press the photographs into a line


def test_a_detector_that_did_not_make_the_verdicts_is_not_drawn(tmp_path):
    manifest = calibration_of(None)
    drawn(tmp_path / "a.png", 1)
    own = suspicion_threshold(manifest.heads["binary"], "binary", 0.05)
    for threshold, has_curve in ((own, True), (own + 1e-9, False)):
        row = image(tmp_path / "a.png", face(1.0) | {"threshold": threshold})
        verdicts = write_rows(tmp_path / "v.jsonl", [row])
        write_review(verdicts, ReviewOptions(tmp_path / "r.html", manifest))
        page = (tmp_path / "r.html").read_text()
        assert (data(page, "deck")["curve"] is not None) == has_curve
        assert ("No histogram is drawn" in page) != has_curve
