"""Decisions joined to the faces of a scan: what must not be mixed."""

from __future__ import annotations

import pytest

from bladescan.base.errors import DataError
from bladescan.feedback.decision_files import read_decisions
from bladescan.feedback.scanned_faces import MIXED, decided_faces, scanned_faces
from tests.feedback.decided import AI, PHOTO, decision, write_lines
from tests.reviewing.reviews import face, image, write_rows


def test_verdicts_on_faces_and_on_whole_pictures_are_not_counted_together(tmp_path):
    """Not even where both detectors happen to have the same head and threshold."""
    whole = face(1.0, None, 1) | {"subject": "image"}
    verdicts = write_rows(tmp_path / "v.jsonl", [image("a.png", face(1.0), whole)])
    decisions = read_decisions([write_lines(tmp_path / "d.jsonl", [decision("a.png", AI)])])
    with pytest.raises(DataError, match="on faces and on whole pictures"):
        scanned_faces([verdicts], decisions)


@pytest.mark.parametrize("place", [None, [0.2, 0.2, 0.8, 0.8]])
def test_decisions_on_faces_and_on_whole_pictures_say_that_their_scores_are_mixed(tmp_path, place):
    lines = [decision("a.png", AI), decision("b.png", PHOTO, place=place)]
    found = decided_faces(read_decisions([write_lines(tmp_path / "d.jsonl", lines)]))
    assert len(found) == 2 and found.cautions == ((MIXED,) if place is None else ())
