"""What reviewers decided outlasts the scan, is found again on the same face alone, and changes no verdict."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from bladescan.base.errors import OutputError
from bladescan.base.records import FaceBox, FlaggedBy, ImageRecord, Verdict
from bladescan.ledger.decision_table import KeptDecisions
from bladescan.ledger.decisions import FaceDecision, reviewed_verdict, with_decisions
from bladescan.ledger.entries import decode, encode
from bladescan.ledger.ledger import Ledger, open_reader
from bladescan.sources.source import Source, Stamp
from tests.ledger.remembered import FACE, ONE, scan_all

SHA = "ab" * 32
PHOTO, AI, UNSURE = "photographic", "ai-generated", "unsure"
HERE = (0.2, 0.2, 0.6, 0.8)
DECIDED = FaceDecision(SHA, 0, "a.jpg", PHOTO, 1000.0, place=HERE)


def ledger(path):
    return Ledger(str(path))


def keep(path, *decisions):
    file = ledger(path)
    try:
        return file.keep_decisions(decisions)
    finally:
        file.close()


def kept(path):
    with open_reader(str(path)) as reader:
        return list(reader.decisions())


def test_a_decision_is_read_as_it_was_kept(tmp_path):
    odd = os.fsdecode(b"odd-\xff\n.jpg")
    full = FaceDecision(SHA, 3, odd, UNSURE, 12.5, False, "not-flagged", -1.5, 4, HERE, 2**64 - 1, 0)
    bare = FaceDecision("cd" * 32, None, "b.jpg", AI, 13.0)
    assert keep(tmp_path / "l", full, bare) == KeptDecisions(new=2, changed=0, known=0, unknown=0)
    assert kept(tmp_path / "l") == [full, bare]


def test_the_latest_counts_and_one_who_looked_counts_more(tmp_path):
    later = DECIDED._replace(decision=AI, decided_at=2000.0)
    alike = DECIDED._replace(decision=UNSURE, decided_at=3000.0, looked_at=False)
    assert keep(tmp_path / "l", DECIDED).new == 1
    assert keep(tmp_path / "l", later, DECIDED, alike) == KeptDecisions(new=0, changed=1, known=2, unknown=0)
    assert kept(tmp_path / "l") == [later]


def test_what_has_no_content_cannot_be_known_again(tmp_path):
    assert keep(tmp_path / "l", DECIDED._replace(sha256="")).unknown == 1
    assert kept(tmp_path / "l") == []


def test_a_full_disk_keeps_none_of_them(tmp_path):
    file = ledger(tmp_path / "l")
    pages = file.db.execute("PRAGMA page_count").fetchone()[0]
    file.db.execute(f"PRAGMA max_page_count = {pages}")
    many = [DECIDED._replace(sha256=f"{number:064x}") for number in range(500)]
    with pytest.raises(OutputError, match="full"):
        file.keep_decisions(many)
    file.close()
    assert kept(tmp_path / "l") == []


def record(**more):
    """An image of 100 x 50 pixels whose face lies where it was decided."""
    box = FaceBox(20, 10, 60, 40, 0.9)
    face = replace(FACE, box=box, frame=0, decision=None)
    fields = {"faces": (face,), "width": 100, "height": 50, "sha256": SHA} | more
    return ImageRecord("a.jpg", Verdict.AI_GENERATED, flagged_by=FlaggedBy.DETECTOR, **fields)


def decided(of, *decisions):
    found = with_decisions(of, lambda sha256: [one for one in decisions if one.sha256 == sha256])
    assert found.verdict == of.verdict
    assert [face.verdict for face in found.faces] == [face.verdict for face in of.faces]
    return [face.decision for face in found.faces]


def test_a_decision_is_put_on_the_very_face_and_on_no_other():
    assert decided(record(), DECIDED) == [PHOTO]
    assert decided(record(sha256="cd" * 32), DECIDED) == [None]
    assert decided(record(sha256=""), DECIDED._replace(sha256="")) == [None]
    assert decided(record(), DECIDED._replace(looked_at=False)) == [None]
    assert decided(record(), DECIDED._replace(face=1)) == [None]
    assert decided(record(), DECIDED._replace(place=(0.5, 0.2, 0.9, 0.8))) == [None]
    assert decided(record(), DECIDED._replace(place=None)) == [None]
    whole = record(faces=(replace(FACE, box=None, frame=0),))
    assert decided(whole, DECIDED._replace(place=None)) == [PHOTO]
    assert decided(whole, DECIDED) == [None]


def test_the_day_of_a_decision_stands_beside_it():
    (face,) = with_decisions(record(), lambda sha256: [DECIDED]).faces
    assert face.decided_at == "1970-01-01T00:16:40+00:00"


@pytest.mark.parametrize(
    ("faces", "flagged_by", "expected"),
    [
        ([("ai-generated", None)], "detector", "ai-generated"),
        ([("ai-generated", PHOTO)], "detector", "not-flagged"),
        ([("ai-generated", UNSURE)], "detector", "ai-generated"),
        ([("ai-generated", PHOTO), ("ai-generated", None)], "detector", "ai-generated"),
        ([("ai-generated", PHOTO), ("unsure", None)], "detector", "unsure"),
        ([("ai-generated", PHOTO), ("not-flagged", AI)], "detector", "ai-generated"),
        ([("not-flagged", AI)], None, "ai-generated"),
        ([("not-flagged", PHOTO)], None, "not-flagged"),
        ([("unsure", PHOTO)], None, "not-flagged"),
        ([("ai-generated", PHOTO)], "declared", "ai-generated"),
        ([("ai-generated", PHOTO)], "detector+declared", "ai-generated"),
        ([], None, "no-face"),
    ],
)
def test_what_is_left_after_a_review(faces, flagged_by, expected):
    made = tuple(replace(FACE, verdict=Verdict(verdict), decision=word) for verdict, word in faces)
    verdicts = [face.verdict for face in made]
    verdict = next((v for v in Verdict if v in verdicts), Verdict.NO_FACE)
    if Verdict.AI_GENERATED in verdicts:
        verdict = Verdict.AI_GENERATED
    image = ImageRecord("a", verdict, faces=made, flagged_by=flagged_by and FlaggedBy(flagged_by))
    assert reviewed_verdict(image) == Verdict(expected)


def test_an_entry_remembers_the_content_and_no_decision():
    with_decision = with_decisions(record(), lambda sha256: [DECIDED])
    assert decode(encode(with_decision), "a.jpg") == record()


def test_rows_from_the_ledger_and_fresh_ones_say_what_is_decided_now(tmp_path):
    sources = [Source("a.jpg", stamp=Stamp(1, "x"))]
    known = replace(sources[0], known=record())
    for word, at in ((PHOTO, 1.0), (AI, 2.0)):
        keep(tmp_path / "l", DECIDED._replace(decision=word, decided_at=at))
        _, (first,), _ = scan_all(tmp_path / "l", ONE, [known])
        assert [face.decision for face in first.faces] == [word]
    _, (again,), n_unchanged = scan_all(tmp_path / "l", ONE, sources)
    assert n_unchanged == 1 and [face.decision for face in again.faces] == [AI]


def test_a_face_of_a_later_frame_takes_no_decision():
    """With another number of frames looked at, its number is another face's."""
    first = record()
    second = replace(first, faces=(replace(first.faces[0], frame=1),))
    told = [with_decisions(one, lambda sha: [DECIDED]).faces[0].decision for one in (first, second)]
    assert told == [PHOTO, first.faces[0].decision]
