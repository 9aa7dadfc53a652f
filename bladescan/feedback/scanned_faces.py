"""Every face of a scan with what reviewers decided of it, as columns. It reads no picture."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError
from bladescan.base.records import Verdict
from bladescan.feedback.decision_files import Decisions
from bladescan.ledger.decisions import AI_GENERATED, PHOTOGRAPHIC, UNSURE, FaceDecision
from bladescan.outputs.rows import escaped
from bladescan.reviewing.verdict_files import ReviewedFace, ReviewedImage, open_verdicts


class Label(IntEnum):
    """What is known of a face. A near-duplicate that nobody looked at is no evidence of its own."""

    UNDECIDED = 0
    PHOTOGRAPHIC = 1
    AI_GENERATED = 2
    UNSURE = 3


_LABELS = {PHOTOGRAPHIC: Label.PHOTOGRAPHIC, AI_GENERATED: Label.AI_GENERATED, UNSURE: Label.UNSURE}
SIDES = (Verdict.AI_GENERATED.value, Verdict.UNSURE.value, Verdict.NOT_FLAGGED.value)
"""What a scan says of a face, by number; flagged first."""
FLAGGED = 0
MIXED = (
    "Faces and whole pictures were decided: their scores are of two detectors and cannot be compared. "
    "What is said by score and by verdict mixes them."
)


@dataclass(frozen=True, slots=True)
class ScannedFaces:
    """The faces of a scan, near-duplicates of decided ones left out.

    Attributes:
        scores: float64 ``[n]``; higher is more AI-generated.
        p_values: float64 ``[n]``, NaN where there is none.
        sides: int8 ``[n]``, places in `SIDES`.
        labels: int8 ``[n]``, of `Label`.
        folders: ``[n]``, places in ``folder_names``.
        folder_names: as in the verdicts.
        threshold: the score above which a face was flagged, None if that is not known.
        is_whole: whether all faces of the scan are here, or the decided ones only.
        keys: of the decisions, by the place of the face.
        n_copies: near-duplicates that nobody looked at, left out.
        n_elsewhere: decided faces that the verdicts do not list.
        cautions: why the verdicts are not all there.
    """

    scores: NDArray[np.float64]
    p_values: NDArray[np.float64]
    sides: NDArray[np.int8]
    labels: NDArray[np.int8]
    folders: NDArray[np.int64]
    folder_names: list[str]
    threshold: float | None
    is_whole: bool
    keys: dict[int, tuple[str, int]]
    n_copies: int = 0
    n_elsewhere: int = 0
    cautions: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Faces."""
        return len(self.scores)

    @property
    def is_sure(self) -> NDArray[np.bool_]:
        """Bool ``[n]``: decided, and not unsure."""
        sure: NDArray[np.bool_] = (self.labels == Label.PHOTOGRAPHIC) | (self.labels == Label.AI_GENERATED)
        return sure


class _Columns:
    """Collects the columns of faces."""

    def __init__(self) -> None:
        self.scores, self.p_values, self.folders = array("d"), array("d"), array("q")
        self.sides, self.labels = array("b"), array("b")
        self.names: dict[str, int] = {}
        self.keys: dict[int, tuple[str, int]] = {}

    def add(
        self, path: str, verdict: str, score: float, p_value: float | None, decision: FaceDecision | None
    ) -> None:
        if decision is not None:
            self.keys[len(self.scores)] = decision.key
        self.scores.append(score)
        self.p_values.append(float("nan") if p_value is None else p_value)
        self.folders.append(self.names.setdefault(os.path.dirname(path), len(self.names)))
        # What a later version says of a face is not flagged, as far as this one knows.
        self.sides.append(SIDES.index(verdict) if verdict in SIDES else len(SIDES) - 1)
        self.labels.append(Label.UNDECIDED if decision is None else _LABELS[decision.decision])

    def scanned(
        self,
        threshold: float | None,
        *,
        is_whole: bool,
        n_copies: int,
        n_elsewhere: int = 0,
        cautions: Iterable[str] = (),
    ) -> ScannedFaces:
        return ScannedFaces(
            np.array(self.scores, np.float64),
            np.array(self.p_values, np.float64),
            np.array(self.sides, np.int8),
            np.array(self.labels, np.int8),
            np.array(self.folders, np.int64),
            list(self.names),
            threshold,
            is_whole,
            self.keys,
            n_copies,
            n_elsewhere,
            tuple(cautions),
        )


def decided_faces(decisions: Decisions) -> ScannedFaces:
    """Take the faces that were looked at alone, where the scan's verdicts are not at hand."""
    columns, n_copies = _Columns(), 0
    has_box: set[bool] = set()
    for decision in decisions.faces.values():
        if decision.face is None or decision.score is None:
            continue
        n_copies += not decision.looked_at
        if decision.looked_at:
            columns.add(decision.path, decision.verdict, decision.score, None, decision)
            has_box.add(decision.place is not None)
    cautions = (MIXED,) if len(has_box) > 1 else ()
    return columns.scanned(None, is_whole=False, n_copies=n_copies, cautions=cautions)


def scanned_faces(verdicts: Iterable[Path], decisions: Decisions) -> ScannedFaces:
    """Read all faces of a scan and join the decisions to them, by path and number of the face.

    Args:
        verdicts: one file, or the files of a scan's shards.
        decisions: on its faces.

    Raises:
        DataError: the files are of different detectors, or hold no verdicts.
        UsageError: there is no such file.
    """
    columns = _Columns()
    cautions: list[str] = []
    known = _by_name(decisions)
    left = set(known.values())
    counted: set[tuple[str, int]] = set()
    decided_by: set[tuple[str, str, float | None]] = set()
    n_copies = 0
    for image, face in _faces(verdicts, cautions):
        if face.score is None:
            continue
        decided_by.add((face.subject, face.head or "", face.threshold))
        key = known.get((_name(image.path), face.face))
        decision = None if key is None else decisions.faces[key]
        if key is not None and decision is not None:
            left.discard(key)
            if not decision.looked_at or key in counted:
                n_copies += 1
                continue
            counted.add(key)
        columns.add(image.path, face.verdict, face.score, face.p_value, decision)
    n_elsewhere = sum(key[1] >= 0 for key in left)
    threshold = _one_threshold(decided_by)
    return columns.scanned(
        threshold, is_whole=True, n_copies=n_copies, n_elsewhere=n_elsewhere, cautions=cautions
    )


def _faces(verdicts: Iterable[Path], cautions: list[str]) -> Iterator[tuple[ReviewedImage, ReviewedFace]]:
    for path in verdicts:
        opened = open_verdicts(path)
        for image in opened.images:
            for face in image.faces:
                yield image, face
        cautions += [f"{path}: {caution}" for caution in opened.cautions]


def _by_name(decisions: Decisions) -> dict[tuple[str, int], tuple[str, int]]:
    """Find decisions by path and face: equal files at several places share one."""
    found = {}
    for key, paths in decisions.paths.items():
        for path in paths:
            found[_name(path), key[1]] = key
    return found


def _name(path: str) -> str:
    """Write a path as every format of decisions and verdicts can hold it."""
    return escaped(path).removeprefix("./")


def _one_threshold(decided_by: set[tuple[str, str, float | None]]) -> float | None:
    if len({subject for subject, _, _ in decided_by}) > 1:
        raise DataError(
            "verdicts on faces and on whole pictures, by two detectors: scan, and review, each apart"
        )
    if len(decided_by) > 1:
        told = ", ".join(
            f"{head or 'unknown'} head above {least}" for _, head, least in sorted(decided_by, key=repr)
        )
        raise DataError(f"verdicts by several heads or thresholds ({told}): give those of one scan")
    return next(iter(decided_by))[2] if decided_by else None


def without_face(decisions: Decisions) -> int:
    """Count decisions on pictures in which the scan found no face, which measure nothing of it."""
    return sum(decision.face is None for decision in decisions.faces.values())
