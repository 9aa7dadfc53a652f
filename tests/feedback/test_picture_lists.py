"""A list names whole pictures, so all of a picture must be known, and be the same still."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bladescan.base.errors import OutputError
from bladescan.feedback.decision_files import read_decisions
from bladescan.feedback.picture_lists import write_lists
from bladescan.images.limits import Limits
from bladescan.sources.listing import list_option
from tests.feedback.decided import AI, PHOTO, UNSURE, decision, write_lines
from tests.reviewing.reviews import sha256


def kept(path: Path, data: bytes = b"") -> dict[str, str]:
    """Write a file; give what a decision says of its content."""
    path.write_bytes(data or os.fsencode(path))
    return {"sha256": sha256(path)}


def lists(folder: Path, lines, sample=None):
    """Write the lists of some decisions; also read each back, as a command does."""
    decisions = read_decisions([write_lines(folder / "d.jsonl", lines)])
    (folder / "lists").mkdir(exist_ok=True)
    found = write_lists(folder / "lists", decisions, sample and sample(decisions), Limits())
    names = {
        path.name: [os.path.basename(source.name) for source in list_option([f"@{path}"], stdin=None)]
        for path in (folder / "lists").iterdir()
    }
    assert found.n == {name: len(listed) for name, listed in names.items()}
    return names, found.left_out


def test_pictures_are_listed_by_what_they_are_whatever_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = [os.fsdecode(b"odd-\xff.jpg"), "line\nend.jpg", "carriage\r", " space ", "ü.jpg"]
    lines = [decision(name, PHOTO, **kept(Path(name))) for name in odd]
    lines += [decision("fake.jpg", AI, **kept(Path("fake.jpg")))]
    names, left_out = lists(tmp_path, lines)
    assert names == {"photographs.txt": odd, "ai-generated.txt": ["fake.jpg"]} and not left_out
    # A list that can be read is one to be read.
    assert (tmp_path / "lists" / "ai-generated.txt").read_bytes() == os.fsencode(
        tmp_path / "fake.jpg"
    ) + b"\n"


def test_a_picture_whose_faces_are_not_all_known_and_alike_is_on_no_list(tmp_path):
    def faces(name, *words, n_faces, **more):
        content = kept(tmp_path / name)
        return [
            decision(tmp_path / name, word, face=number, n_faces=n_faces, **content, **more)
            for number, word in enumerate(words)
        ]

    lines = [
        *faces("both", PHOTO, PHOTO, n_faces=2),
        *faces("differ", PHOTO, AI, n_faces=2),
        *faces("half", PHOTO, n_faces=2),
        *faces("unsure", PHOTO, UNSURE, n_faces=2),
        *faces("alike", AI, n_faces=1, looked_at=False),
        decision(tmp_path / "second alone", AI, face=1, n_faces=None, **kept(tmp_path / "second alone")),
        decision(tmp_path / "landscape", PHOTO, face=None, n_faces=0, **kept(tmp_path / "landscape")),
        decision(tmp_path / "lost", PHOTO, face=None, sha256="", n_faces=0),
    ]
    names, left_out = lists(tmp_path, lines)
    assert names == {"photographs.txt": ["both"], "ai-generated.txt": []}
    assert left_out == {
        "with faces that were decided differently": 1,
        "with faces that nobody decided": 2,
        "unsure": 1,
        "near-duplicates that nobody looked at": 1,
        "without a face": 2,
    }


def test_a_changed_file_is_left_out_and_one_that_moved_is_found_where_it_still_is(tmp_path):
    lines = [decision(tmp_path / name, PHOTO, **kept(tmp_path / name)) for name in ("changed", "gone")]
    (tmp_path / "changed").write_bytes(b"another picture")
    (tmp_path / "gone").unlink()
    copies = [tmp_path / "first", tmp_path / "second"]
    lines += [decision(path, PHOTO, **kept(path, b"one picture")) for path in copies]
    names, left_out = lists(tmp_path, lines)
    assert names["photographs.txt"] == ["first"]  # once, though it is there twice
    assert left_out == {"changed since": 1, "gone, or not readable any more": 1}
    copies[0].unlink()
    assert lists(tmp_path, lines)[0]["photographs.txt"] == ["second"]


def test_the_sample_has_photographs_all_of_whose_faces_were_chosen(tmp_path):
    lines = [
        decision(tmp_path / name, word, **kept(tmp_path / name))
        for name, word in zip("abc", (PHOTO, PHOTO, AI), strict=True)
    ]
    chosen = lambda decisions: {key for key, paths in decisions.paths.items() if paths[0][-1] in "bc"}  # noqa: E731
    assert lists(tmp_path, lines, chosen)[0]["calibration.txt"] == ["b"]


def test_a_list_that_cannot_be_written_is_an_error(tmp_path):
    decisions = read_decisions([write_lines(tmp_path / "d.jsonl", [decision("a", AI)])])
    with pytest.raises(OutputError, match="there is no folder"):
        write_lists(tmp_path / "none", decisions, None, Limits())
