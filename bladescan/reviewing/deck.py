"""The cards of a review: one for each face and each picture without one, near-duplicates behind their first.

Some hundred bytes of a card stay in memory, whatever the picture; the rest waits in a temporary file.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bladescan.base.places import Place
from bladescan.base.records import FlaggedBy, Verdict
from bladescan.outputs.ordering import GROUPS
from bladescan.reviewing.byte_spool import NOTHING, ByteSpool, Span
from bladescan.reviewing.earlier_decisions import EarlierDecisions
from bladescan.reviewing.near_duplicates import Look, leaders
from bladescan.reviewing.thumbnail_process import FaceThumbnail, PictureThumbnail, Thumbnails
from bladescan.reviewing.verdict_files import ReviewedFace, ReviewedImage
from bladescan.reviewing.weak_spots import Spot, source_spots, weak_spots

_GROUPS = {verdict.value: place for verdict, place in GROUPS.items()}
_OTHER = GROUPS[Verdict.NOT_FLAGGED]
"""The place of a verdict that this version does not know."""
_MOST_PIXELS = 65535
LOOKS = ("n_faces", "place", "picture_hash", "crop_hash")
"""The fields of a card by which a decision on it is known again: on the same face, and on near-duplicates."""


class Card(NamedTuple):
    """One card as it goes into a page.

    Attributes:
        told: the fields of the page's JSON but for the pictures.
        crop, picture: WebP, b"" where there is none.
        picture_key: equal for cards of one picture.
        copies: of its near-duplicates, ``told`` of each, in order.
    """

    told: dict[str, Any]
    crop: bytes
    picture: bytes
    picture_key: int
    copies: list[dict[str, Any]]


class Names:
    """Words that many cards share, by number, in the order in which they came."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, word: str) -> int:
        """Return the number of a word; a new word gets the next one."""
        return self._numbers.setdefault(word, len(self._numbers))

    def words(self) -> list[str]:
        """List all words; a word's number is its place."""
        return list(self._numbers)


class Deck:
    """Collects cards, then puts them in order: the most suspicious first, copies behind the first of them.

    Args:
        spool: where pictures and details wait.
        scanned: when the scan began, None if that is not known.
        earlier: what was decided before.
        show_decided: whether what is settled by it gets a card all the same.

    Attributes:
        verdicts, declared, reasons, folders: the words behind the numbers of the columns.
        thresholds: faces by the head that decided and its threshold.
        n_missing: cards of files that could not be read again.
        n_explained: cards of faces of which the verdicts say what their score rests on.
        n_decided, n_like_decided: faces without a card, decided before themselves or in a near-duplicate.
    """

    def __init__(
        self,
        spool: ByteSpool,
        scanned: datetime | None,
        earlier: EarlierDecisions | None = None,
        *,
        show_decided: bool = False,
    ) -> None:
        self._spool, self._scanned = spool, scanned
        self._earlier, self._show_decided = earlier or EarlierDecisions(), show_decided
        self.n_decided = self.n_like_decided = 0
        self.verdicts, self.declared, self.reasons, self.folders = Names(), Names(), Names(), Names()
        self._scores, self._groups = array("d"), array("b")
        self._p_values, self._subjects = array("d"), set[str]()
        self._codes = {name: array("B") for name in ("verdict", "declared", "reason", "spots")}
        self._sides, self._folders = array("H"), array("L")
        self._spans = {name: (array("Q"), array("L")) for name in ("told", "crop", "picture")}
        self._looks: list[Look] = []
        self.thresholds: dict[tuple[str, float], int] = {}
        self.n_missing = self.n_explained = 0

    def __len__(self) -> int:
        return len(self._scores)

    @property
    def highest(self) -> float | None:
        """The highest score of all faces, None without a face."""
        known = [score for score in self._scores if score == score]
        return max(known, default=None)

    def add(self, image: ReviewedImage, seen: Thumbnails) -> None:
        """Add the cards of one image: one for each of its faces, or one without a face."""
        spots = source_spots(image, seen, self._scanned)
        pictures = {picture.frame: picture for picture in seen.pictures}
        spans = {frame: self._spool.write(picture.small) for frame, picture in pictures.items()}
        if not image.faces:
            self._add(image, None, None, seen, spots, pictures.get(0), spans.get(0, NOTHING))
        for place, face in enumerate(image.faces):
            crop = seen.faces[place] if place < len(seen.faces) else None
            picture, span = pictures.get(face.frame), spans.get(face.frame, NOTHING)
            self._add(image, face, crop, seen, spots | weak_spots(face, crop), picture, span)

    def _add(
        self,
        image: ReviewedImage,
        face: ReviewedFace | None,
        crop: FaceThumbnail | None,
        seen: Thumbnails,
        spots: Spot,
        picture: PictureThumbnail | None,
        picture_span: Span,
    ) -> None:
        verdict = _verdict(image, face)
        place = _place(face, picture)
        likeness = picture.likeness if picture else None
        content = (seen.sha256, -1 if face is None else face.face)
        look = Look(likeness, crop.likeness if crop else None, place, content)
        earlier = self._earlier.find(look, 0 if face is None else face.frame)
        if earlier is not None and earlier.is_settled and not self._show_decided:
            self.n_decided += earlier.is_same
            self.n_like_decided += not earlier.is_same
            return
        told = _told(image, face, seen, verdict, look, picture)
        if earlier is not None:
            told["earlier"] = earlier.told()
            spots |= Spot.DECIDED if earlier.is_same else Spot.LIKE_DECIDED
        if face is not None and face.head is not None and face.threshold is not None:
            decided = (face.head, face.threshold)
            self.thresholds[decided] = self.thresholds.get(decided, 0) + 1
        self._scores.append(float("nan") if face is None or face.score is None else face.score)
        self._p_values.append(float("nan") if face is None or face.p_smooth is None else face.p_smooth)
        self._subjects |= set() if face is None else {face.subject}
        self._groups.append(_GROUPS.get(verdict, _OTHER))
        self.n_missing += Spot.MISSING in spots
        self.n_explained += face is not None and face.explanation is not None
        codes = {
            "verdict": self.verdicts.number(verdict),
            "declared": self.declared.number(image.declared or "not read"),
            "reason": self.reasons.number(image.reason or ""),
            "spots": int(spots),
        }
        for name, code in codes.items():
            self._codes[name].append(min(code, 255))
        self._sides.append(_side(face))
        self._folders.append(self.folders.number(os.path.dirname(image.path)))
        self._keep("told", self._spool.write(json.dumps(told).encode()))
        self._keep("crop", self._spool.write(crop.crop) if crop else NOTHING)
        self._keep("picture", picture_span)
        self._looks.append(look)

    def _keep(self, name: str, span: Span) -> None:
        starts, lengths = self._spans[name]
        starts.append(span.start)
        lengths.append(span.length)

    def _span(self, name: str, index: int) -> Span:
        starts, lengths = self._spans[name]
        return Span(starts[index], lengths[index])

    def stack(self) -> Stack:
        """Put the cards in order, after the last was added."""
        scores = np.frombuffer(self._scores, np.float64)
        groups = np.frombuffer(self._groups, np.int8)
        keys: list[NDArray[Any]] = [-np.nan_to_num(scores, nan=-np.inf), groups]
        if len(self._subjects) > 1:  # of two detectors, whose scores cannot be compared
            keys.insert(1, np.nan_to_num(np.frombuffer(self._p_values, np.float64), nan=np.inf))
        order = np.lexsort(keys)  # stable: then as listed
        first = np.fromiter(leaders(self._looks[i] for i in order), np.int64, len(order))
        return Stack(self, order, first)

    def column(self, name: str, chosen: NDArray[np.int64]) -> NDArray[Any]:
        """Return what the page sorts and filters by.

        Args:
            name: ``score``, ``verdict``, ``declared``, ``reason``, ``spots``, ``side`` or ``folder``.
            chosen: the cards, in order.
        """
        columns: Mapping[str, tuple[array[Any], type]] = {
            "score": (self._scores, np.float64),
            "side": (self._sides, np.uint16),
            "folder": (self._folders, np.dtype(f"u{self._folders.itemsize}").type),
            **{name: (codes, np.uint8) for name, codes in self._codes.items()},
        }
        values, kind = columns[name]
        found: NDArray[Any] = np.frombuffer(values, kind)[chosen]
        return found

    def content(self, index: int) -> tuple[str, int]:
        """Return what a card's decisions are kept by: SHA-256 of the file, and the face or -1."""
        return self._looks[index].content

    def told(self, index: int) -> dict[str, Any]:
        """Return the fields of a card but for its pictures."""
        fields: dict[str, Any] = json.loads(self._spool.read(self._span("told", index)))
        return fields

    def card(self, index: int, copies: NDArray[np.int64]) -> Card:
        """Return a card with its near-duplicates."""
        picture = self._span("picture", index)
        return Card(
            self.told(index),
            self._spool.read(self._span("crop", index)),
            self._spool.read(picture),
            picture.start,
            [self.told(int(copy)) for copy in copies],
        )


class Stack:
    """The cards of a deck in order.

    Attributes:
        shown: index in the deck of each card that the page shows.
        n_copies: of each, near-duplicates behind it.
    """

    def __init__(self, deck: Deck, order: NDArray[np.int64], first: NDArray[np.int64]) -> None:
        self.deck = deck
        is_shown = first == np.arange(len(first))
        self.shown: NDArray[np.int64] = order[is_shown]
        number = np.cumsum(is_shown) - 1  # of the card, for those that are shown
        behind = np.flatnonzero(~is_shown)
        of = number[first[behind]]
        by_card = np.argsort(of, kind="stable")
        self._copies = order[behind[by_card]]
        self._starts = np.searchsorted(of[by_card], np.arange(len(self.shown) + 1))
        self.n_copies: NDArray[np.int64] = np.diff(self._starts)

    def __len__(self) -> int:
        return len(self.shown)

    def column(self, name: str) -> NDArray[Any]:
        """Return what the page sorts and filters by, see `Deck.column`; ``listed`` is the row's number."""
        return self.shown if name == "listed" else self.deck.column(name, self.shown)

    def digest(self) -> str:
        """Digest which faces of which files are shown, and in which order: the page's own name."""
        digest = hashlib.sha256()
        for index in self.shown:
            digest.update(repr(self.deck.content(int(index))).encode())
        return digest.hexdigest()[:32]

    def cards(self, start: int, stop: int) -> Iterator[Card]:
        """Yield some cards, by their places in the order."""
        for place in range(start, min(stop, len(self))):
            behind = self._copies[self._starts[place] : self._starts[place + 1]]
            yield self.deck.card(int(self.shown[place]), behind)


def _verdict(image: ReviewedImage, face: ReviewedFace | None) -> str:
    """Choose the verdict of a card: what the file declares flags each of its faces."""
    declared = image.flagged_by in (FlaggedBy.DECLARED.value, FlaggedBy.BOTH.value)
    return image.verdict if face is None or declared else face.verdict


def _side(face: ReviewedFace | None) -> int:
    """Measure the longer side of a face in pixels; 0 without a box."""
    if face is None or face.box is None:
        return 0
    x0, y0, x1, y1 = face.box
    return int(min(max(x1 - x0, y1 - y0, 0), _MOST_PIXELS))


def _place(face: ReviewedFace | None, picture: PictureThumbnail | None) -> Place | None:
    if face is None or face.box is None or picture is None:
        return None
    x0, y0, x1, y1 = face.box
    return x0 / picture.width, y0 / picture.height, x1 / picture.width, y1 / picture.height


def _hexadecimal(likeness: int | None) -> str | None:
    return None if likeness is None else f"{likeness:016x}"


def _explained(face: ReviewedFace) -> dict[str, Any] | None:
    return None if face.explanation is None else msgspec.to_builtins(face.explanation)


def _alone(face: ReviewedFace) -> dict[str, float] | None:
    """Collect the p-value of each of several combined detectors."""
    found = {name: one.p_value for name, one in face.components.items() if one.p_value is not None}
    return found or None


def _told(
    image: ReviewedImage,
    face: ReviewedFace | None,
    seen: Thumbnails,
    verdict: str,
    look: Look,
    picture: PictureThumbnail | None,
) -> dict[str, Any]:
    """Collect the fields of a card; what does not apply is left out."""
    fields = {
        "path": image.path,
        "sha256": seen.sha256,
        "face": None if face is None else face.face,
        "subject": "image" if face is not None and face.subject == "image" else None,
        "tiles": None if face is None else face.tiles,
        "verdict": verdict,
        "score": None if face is None else face.score,
        "threshold": None if face is None else face.threshold,
        "p": None if face is None else face.p_value,
        "stability": None if face is None else face.stability,
        "components": None if face is None else _alone(face),
        "explanation": None if face is None else _explained(face),
        "frame": face.frame if face is not None and face.frame else None,
        "rotation": None if face is None else face.rotation or None,
        "side": _side(face) or None,
        "place": None if look.place is None else [round(share, 4) for share in look.place],
        "n_faces": len(image.faces),
        "picture_hash": _hexadecimal(look.picture),
        "crop_hash": _hexadecimal(look.crop),
        "size": None if picture is None else [picture.width, picture.height],
        "format": image.format,
        "frames": image.n_frames if image.n_frames != 1 else None,
        "flagged_by": image.flagged_by,
        "declared": image.declared,
        "declared_by": image.declared_by,
        "declared_tool": image.declared_tool,
        "declared_signer": image.declared_signer,
        "c2pa": image.c2pa_status,
        "reason": image.reason,
        "detail": image.detail,
        "gone": None if seen.reason is None else seen.reason.value,
        "gone_detail": seen.detail,
    }
    kept = {name: value for name, value in fields.items() if value is not None}
    return kept | {"face": fields["face"], "score": fields["score"]}
