"""Nobody is asked twice about a face; a picture that only looks like a cleared one is asked about."""

from __future__ import annotations

import pytest

from bladescan.ledger.decisions import FaceDecision
from bladescan.reviewing.earlier_decisions import EarlierDecisions
from bladescan.reviewing.near_duplicates import Look

PHOTO, AI, UNSURE = "photographic", "ai-generated", "unsure"
HERE, ELSEWHERE = (0.2, 0.2, 0.6, 0.8), (0.6, 0.2, 1.0, 0.8)
PICTURE, CROP = 0x0F0F_1234_5678_9ABC, 0x5555_AAAA_1234_FFFF
THIS = Look(PICTURE, CROP, HERE, ("ab" * 32, 0))
COPY = Look(PICTURE ^ 0b101, CROP ^ 0b11, HERE, ("cd" * 32, 0))


def decided(word, **more):
    made = FaceDecision("ab" * 32, 0, "a.jpg", word, 86400.0 * 365)
    return made._replace(place=HERE, picture_hash=PICTURE, crop_hash=CROP, **more)


@pytest.mark.parametrize(("word", "is_settled"), [(PHOTO, True), (AI, True), (UNSURE, False)])
def test_a_face_that_was_decided_is_settled_unless_the_reviewer_was_unsure(word, is_settled):
    found = EarlierDecisions([decided(word)]).find(THIS)
    assert found.is_same and found.is_settled is is_settled
    assert found.told() == f"{word} on 1971-01-01"


@pytest.mark.parametrize(("word", "is_settled"), [(PHOTO, False), (AI, True)])
def test_a_near_duplicate_is_settled_only_where_looking_alike_gains_nothing(word, is_settled):
    found = EarlierDecisions([decided(word)]).find(COPY)
    assert not found.is_same and found.is_settled is is_settled
    assert found.told() == f"{word} on 1971-01-01, of a picture that looks like it"


def test_what_looks_like_both_is_asked_about():
    other = decided(AI)._replace(sha256="ef" * 32)
    for order in ([decided(PHOTO), other], [other, decided(PHOTO)]):
        assert not EarlierDecisions(order).find(COPY).is_settled


@pytest.mark.parametrize(
    ("decision", "look"),
    [
        (decided(AI), THIS._replace(place=ELSEWHERE, crop=~CROP & (2**64 - 1))),
        (decided(AI), COPY._replace(place=ELSEWHERE)),
        (decided(AI), COPY._replace(crop=CROP ^ (2**20 - 1))),
        (decided(AI), COPY._replace(picture=None)),
        (decided(AI), COPY._replace(crop=None)),
        (decided(AI, looked_at=False), THIS),
        (decided(AI)._replace(picture_hash=0), COPY._replace(picture=0)),  # pictures of one colour
        (decided(UNSURE), COPY),
        (decided(AI)._replace(picture_hash=None), COPY),
    ],
)
def test_others_are_new(decision, look):
    assert EarlierDecisions([decision]).find(look) is None


@pytest.mark.parametrize("word", [PHOTO, AI])
def test_the_number_of_a_face_of_a_later_frame_tells_nothing(word):
    decisions = EarlierDecisions([decided(word)])
    assert not decisions.find(THIS, frame=3).is_same
    assert decisions.find(THIS._replace(crop=None), frame=3) is None
