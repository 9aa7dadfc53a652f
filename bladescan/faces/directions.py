"""Searching one picture for faces that lie or stand on their head, whatever finds upright ones.

How the sizes and scores here were chosen stands in docs/faces.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from PIL import Image

from bladescan.base.records import ROTATIONS, FaceBox
from bladescan.detectors.manifest import FaceRule
from bladescan.faces.crops import crop_square
from bladescan.faces.pictures import AnyImage, turned_box, upright
from bladescan.faces.search import Look, as_picture, fit, overlapping, surest_first

TURNED = ROTATIONS[1:]

Find = Callable[[AnyImage], list[FaceBox]]
"""All upright faces of a picture, highest score first, in its pixels."""

_CLOSE_UP = FaceRule(scale=2.0)
_CLOSE_UP_SIDE = 96
_SAME_PLACE = 0.4  # share of the smaller box from which two boxes of two directions are one face


class TurnScores(NamedTuple):
    """What a finder's scores say of a face's turn.

    Attributes:
        sure: no face that is seen turned has this score: the picture stands upright.
        hint: at a glance: a turn with less is not looked into.
        least: of a turned face that is found in the end; more than of an upright one, for three more
            directions give three times the chances to see a face where there is none.
    """

    sure: float
    hint: float
    least: float


def search_around(image: AnyImage, find: Find, look: Look, side: int, scores: TurnScores) -> list[FaceBox]:
    """Find upright faces; where there are none, or none that is sure, those that are turned as well.

    One direction is searched besides: the one that a few glances show to be the likeliest.

    Args:
        image: RGB.
        find: the search for upright faces.
        look: a quick one in a small picture, down to the score ``scores.hint``.
        side: long side of the small picture, in pixels.
        scores: what the scores say.

    Returns:
        Highest score first, in pixels of ``image``, each with its rotation.
    """
    found = find(image)
    if found and found[0].score >= scores.sure:
        return found
    picture = as_picture(image)
    turn = _doubted(picture, found[0], look) if found else None
    if turn is None:  # nothing is upright, or what seemed to be is nothing at a second glance
        turn = _hinted(picture, look, side)
    if not turn:
        return found
    surely = [face for face in find(upright(picture, turn)) if face.score >= scores.least]
    turned = [turned_box(face, picture.size, turn) for face in surely]
    return _surer(found, turned)


def _hinted(picture: Image.Image, look: Look, side: int) -> int:
    """Glance at a picture in which no face stands upright; the likeliest turn, 0 where no face is seen."""
    small = fit(picture, side)
    seen = {turn: _best(look(upright(small, turn))) for turn in TURNED}
    likeliest = max(TURNED, key=seen.__getitem__)
    return likeliest if seen[likeliest] else 0


def _doubted(picture: Image.Image, face: FaceBox, look: Look) -> int | None:
    """Glance at one face from all four sides: the turn in which it is surest; None where it is in none."""
    x0, y0, x1, y1 = map(round, crop_square(face, *picture.size, _CLOSE_UP))
    near = fit(picture.crop((x0, y0, x1, y1)), _CLOSE_UP_SIDE)
    seen = {turn: _best(look(upright(near, turn))) for turn in ROTATIONS}
    surest = max(seen, key=seen.__getitem__)
    return surest if seen[surest] else None


def _best(faces: list[FaceBox]) -> float:
    return max((face.score for face in faces), default=0.0)


def _surer(found: list[FaceBox], turned: list[FaceBox]) -> list[FaceBox]:
    """Join faces of two directions if the turned ones are surer; one place has one face."""
    if _best(turned) <= _best(found):
        return found
    apart = [face for face in found if not any(overlapping(face, other) > _SAME_PLACE for other in turned)]
    return surest_first(turned + apart)
