"""What a reviewer decided of one face, as it is kept. It is read from no file here and shown on no page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from bladescan.base.places import Place, are_one
from bladescan.base.records import FaceVerdict, FlaggedBy, ImageRecord, Verdict

DECISIONS = ("photographic", "ai-generated", "unsure")
PHOTOGRAPHIC, AI_GENERATED, UNSURE = DECISIONS


class FaceDecision(NamedTuple):
    """A decision on one face, or on a picture without one.

    Attributes:
        sha256: of the file, 64 hexadecimal digits; "" where it could not be read.
        face: number of the face in the file, None of a picture without one.
        path: where the file was; odd bytes as surrogate escapes.
        decision: one of `DECISIONS`.
        decided_at: in seconds since 1970.
        looked_at: whether the reviewer saw this very face, and not one that looks like it.
        verdict: what the scan said.
        score: of the scan, None without one.
        n_faces: in the file, None if that is not known.
        place: corners of the face's box as shares of the picture's width and height; None without a box.
        picture_hash, crop_hash: perceptual hashes, None if not known.
    """

    sha256: str
    face: int | None
    path: str
    decision: str
    decided_at: float
    looked_at: bool = True
    verdict: str = ""
    score: float | None = None
    n_faces: int | None = None
    place: Place | None = None
    picture_hash: int | None = None
    crop_hash: int | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What two decisions on one face share: the content (the path where none is known) and the face."""
        return (self.sha256 or f"path:{self.path}", -1 if self.face is None else self.face)

    @property
    def rank(self) -> tuple[bool, float]:
        """How much it counts among decisions on one face: one who looked at it first, then the latest."""
        return self.looked_at, self.decided_at

    @property
    def is_sure(self) -> bool:
        """Whether the reviewer could tell."""
        return self.decision != UNSURE


def count_words(decisions: Iterable[FaceDecision]) -> dict[str, int]:
    """Count decisions by their word."""
    found = dict.fromkeys(DECISIONS, 0)
    for decision in decisions:
        found[decision.decision] += 1
    return found


def with_decisions(record: ImageRecord, find: Callable[[str], Iterable[FaceDecision]]) -> ImageRecord:
    """Put beside each face what a reviewer decided of it, and leave all verdicts as they are.

    A decision is of a face if the file has the same bytes and the face the same number and place in it: with
    another face finder the number may be another face's. One on a near-duplicate is none on the face. Of an
    animation only faces of the first frame take one: a scan of more or fewer frames numbers the others anew.

    Args:
        record: as scanned.
        find: the decisions on a file by its SHA-256.
    """
    if not record.sha256 or not record.faces:
        return record
    decided = {one.face: one for one in find(record.sha256) if one.looked_at}
    if not decided:
        return record
    faces = tuple(_decided(face, decided.get(number), record) for number, face in enumerate(record.faces))
    return replace(record, faces=faces)


def _decided(face: FaceVerdict, decision: FaceDecision | None, record: ImageRecord) -> FaceVerdict:
    if decision is None or face.frame or not are_one(decision.place, _place(face, record)):
        return face
    at = datetime.fromtimestamp(decision.decided_at, UTC).isoformat(timespec="seconds")
    return replace(face, decision=decision.decision, decided_at=at)


def _place(face: FaceVerdict, record: ImageRecord) -> Place | None:
    if face.box is None or not record.width or not record.height:
        return None
    x0, y0, x1, y1 = face.box.x0, face.box.y0, face.box.x1, face.box.y1
    return x0 / record.width, y0 / record.height, x1 / record.width, y1 / record.height


def reviewed_verdict(record: ImageRecord) -> Verdict:
    """Judge an image by its verdicts and what reviewers decided of its faces, where they did.

    A face that was decided photographic counts for nothing more, and one that was decided AI-generated makes
    the image so, flagged or not. What the file declares of itself stays: no reviewer was asked about that.
    """
    decisions = {face.decision for face in record.faces}
    if AI_GENERATED in decisions or record.flagged_by in (FlaggedBy.DECLARED, FlaggedBy.BOTH):
        return Verdict.AI_GENERATED
    if PHOTOGRAPHIC not in decisions:
        return record.verdict
    left = {face.verdict for face in record.faces if face.decision != PHOTOGRAPHIC}
    for verdict in (Verdict.AI_GENERATED, Verdict.UNSURE):
        if verdict in left:
            return verdict
    return Verdict.NOT_FLAGGED
