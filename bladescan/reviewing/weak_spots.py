"""Where a detector is known to be weak, or its verdict to be of another file: said on the card of a face."""

from __future__ import annotations

from datetime import datetime
from enum import IntFlag
from typing import NamedTuple

from bladescan.base.records import Verdict
from bladescan.reviewing.thumbnail_process import FaceThumbnail, Thumbnails
from bladescan.reviewing.verdict_files import ReviewedFace, ReviewedImage

SMALL_SIDE = 64
"""Pixels: a smaller face shows little to judge by (the model card's row of faces of 64 and 32 pixels)."""

FLAT_SHARE = 1 / 3
"""Of the pixels without texture, above which skin counts as smoothed: 5% of photographs, 90% of those that a
bilateral filter smoothed."""


class Spot(IntFlag):
    """One bit for each thing to beware of; a column of the page holds them together."""

    SMALL = 1
    SMOOTH = 2
    TURNED = 4
    MISSING = 8
    CHANGED = 16
    DECIDED = 32
    LIKE_DECIDED = 64


class SpotWords(NamedTuple):
    """How a spot is called in a filter, and what a card says of it."""

    label: str
    said: str


WORDS = {
    Spot.SMALL: SpotWords("small face", f"below {SMALL_SIDE} pixels there is little to judge by"),
    Spot.SMOOTH: SpotWords("smooth", "with so little texture the detector errs more often"),
    Spot.TURNED: SpotWords("turned face", "it was turned upright before it was judged"),
    Spot.MISSING: SpotWords("missing", "the file cannot be read any more"),
    Spot.CHANGED: SpotWords("changed", "the verdict is of the file before it was changed"),
    Spot.DECIDED: SpotWords("decided earlier", "a reviewer decided on this very face"),
    Spot.LIKE_DECIDED: SpotWords(
        "like a decided one", "it looks like a face that a reviewer decided on, but is another file"
    ),
}


def weak_spots(face: ReviewedFace, seen: FaceThumbnail | None) -> Spot:
    """Tell where the detector is weak on a face.

    Args:
        face: its row.
        seen: the face as the detector saw it, None if it could not be seen again.
    """
    found = Spot(0)
    if face.box is not None:
        x0, y0, x1, y1 = face.box
        if max(x1 - x0, y1 - y0) < SMALL_SIDE:
            found |= Spot.SMALL
    if face.rotation:
        found |= Spot.TURNED
    # Sky and walls are smooth: of a whole picture that says nothing.
    if face.subject == "face" and seen is not None and seen.flat >= FLAT_SHARE:
        found |= Spot.SMOOTH
    return found


def source_spots(image: ReviewedImage, seen: Thumbnails, scanned: datetime | None) -> Spot:
    """Tell whether a source is still what was scanned.

    Args:
        image: its row.
        seen: the source now.
        scanned: when the scan began, None if that is not known.
    """
    if seen.reason is not None or not seen.sha256:
        # What no scan could open is no less there than before.
        unread = image.verdict == Verdict.UNREADABLE.value and image.reason == _word(seen)
        return Spot(0) if unread else Spot.MISSING
    later = scanned is not None and seen.modified is not None and seen.modified > scanned.timestamp() + 1.0
    looked = seen.format is not None
    other = looked and (image.width, image.height, image.format) != (seen.width, seen.height, seen.format)
    return Spot.CHANGED if later or other else Spot(0)


def _word(seen: Thumbnails) -> str | None:
    return None if seen.reason is None else seen.reason.value
