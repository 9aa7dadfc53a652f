"""In which order images come out, and what is kept of a scan that is broken off."""

from dataclasses import replace

import numpy as np
import pytest

from bladescan.base.errors import DataError, TooManyErrorsError, UnknownNameError, UsageError
from bladescan.base.records import FaceVerdict, ImageRecord, Reason, Verdict
from bladescan.outputs.ordering import Ordering

FACE = FaceVerdict(0, None, -1.0, None, 0.5, Verdict.NOT_FLAGGED, "one-class", 1.0, 2.0, 0.6)


def image(name, *scores, verdict=None):
    faces = tuple(replace(FACE, score=score) for score in scores)
    flagged = Verdict.AI_GENERATED if max(scores, default=0.0) > 2.0 else Verdict.NOT_FLAGGED
    return ImageRecord(name, verdict or (flagged if scores else Verdict.NO_FACE), faces=faces)


RECORDS = [
    image("none"),
    image("low", 0.5),
    replace(image("broken"), verdict=Verdict.UNREADABLE, reason=Reason.EMPTY),
    image("two", 1.0, 7.0),
    image("same", 0.5),
    image("declared", verdict=Verdict.AI_GENERATED),
    image("\udcff", 3.0),
]
BEST_FIRST = ["two", "\udcff", "declared", "low", "same", "broken", "none"]


def names(records):
    return [record.source for record in records]


@pytest.mark.parametrize("top", [None, 1, 2, 5, 7, 100])
def test_the_most_suspicious_image_comes_first_and_equals_as_they_were_listed(top):
    ordering = Ordering("score", top)
    found = list(ordering.ordered(RECORDS))
    assert names(found) == BEST_FIRST[:top]
    assert all(record in RECORDS for record in found)
    assert ordering.n_below_top == max(0, 7 - (top or 7))


def test_many_images_come_in_the_order_of_a_plain_sort():
    scores = np.random.default_rng(0).normal(size=2000).round(2)
    records = [image(str(i), score) for i, score in enumerate(scores)]
    expected = [str(i) for i in np.argsort(-scores, kind="stable")]
    assert names(Ordering("score").ordered(records)) == expected
    assert names(Ordering(top=150).ordered(records)) == expected[:150]


def test_auto_sorts_for_people_and_for_the_top_only():
    assert names(Ordering().ordered(RECORDS)) == names(RECORDS)
    assert names(Ordering("listed", for_people=True).ordered(RECORDS)) == names(RECORDS)
    assert names(Ordering(for_people=True).ordered(RECORDS)) == BEST_FIRST


@pytest.mark.parametrize("exc", [KeyboardInterrupt(), TooManyErrorsError("too many")])
@pytest.mark.parametrize("top", [None, 2])
def test_what_was_finished_comes_out_in_order_before_the_exception(exc, top):
    def broken():
        yield from RECORDS[:4]
        raise exc

    found = []
    with pytest.raises(type(exc)):
        found.extend(record.source for record in Ordering("score", top).ordered(broken()))
    # what list.extend had taken before the exception is there
    assert found == ["two", "low", "broken", "none"][:top]


def test_a_failed_scan_hands_on_nothing():
    def failing():
        yield RECORDS[0]
        raise DataError("x")

    with pytest.raises(DataError):
        next(Ordering("score").ordered(failing()))


def test_choices_that_make_no_order_are_refused():
    with pytest.raises(UnknownNameError, match="'score'"):
        Ordering("scores")
    with pytest.raises(UsageError, match="excludes --sort listed"):
        Ordering("listed", 5)
    with pytest.raises(UsageError, match="at least 1"):
        Ordering("score", 0)
