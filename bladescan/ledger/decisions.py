"""What a reviewer decided of one face, as it is kept. It is read from no file here and shown on no page."""

from __future__ import annotations

from typing import NamedTuple

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
    place: tuple[float, float, float, float] | None = None
    picture_hash: int | None = None
    crop_hash: int | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What two decisions on one face share: the content (the path where none is known) and the face."""
        return (self.sha256 or f"path:{self.path}", -1 if self.face is None else self.face)

    @property
    def is_sure(self) -> bool:
        """Whether the reviewer could tell."""
        return self.decision != UNSURE
