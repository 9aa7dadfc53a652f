"""How a ledger stores the decisions of reviewers: a row for each face of each file, by its content."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from bladescan.ledger.decisions import FaceDecision

DECISION_TABLE = """CREATE TABLE decision (
    sha256 TEXT NOT NULL, face INTEGER NOT NULL, path BLOB NOT NULL, decision TEXT NOT NULL,
    decided_at REAL NOT NULL, looked_at INTEGER NOT NULL, verdict TEXT NOT NULL, score REAL,
    n_faces INTEGER, place TEXT, picture_hash TEXT, crop_hash TEXT, UNIQUE (sha256, face))"""
_COLUMNS = (
    "sha256, face, path, decision, decided_at, looked_at, verdict, score, "
    "n_faces, place, picture_hash, crop_hash"
)
_NO_FACE = -1


class KeptDecisions(NamedTuple):
    """What became of decisions that were to be kept.

    Attributes:
        new: on faces that had none.
        changed: took the place of another.
        known: were there already, or count less than what is.
        unknown: of files that could not be read: nothing would tell them when they come again.
    """

    new: int
    changed: int
    known: int
    unknown: int


def keep_decisions(db: sqlite3.Connection, decisions: Iterable[FaceDecision]) -> KeptDecisions:
    """Store decisions, within a transaction of the caller."""
    counts = dict.fromkeys(KeptDecisions._fields, 0)
    for decision in decisions:
        if not decision.sha256:
            counts["unknown"] += 1
            continue
        before = next((one for one in decisions_on(db, decision.sha256) if one.face == decision.face), None)
        if before is not None and decision.rank <= before.rank:
            counts["known"] += 1
            continue
        counts["new" if before is None else "changed"] += 1
        marks = ",".join("?" * 12)
        db.execute(f"INSERT OR REPLACE INTO decision ({_COLUMNS}) VALUES ({marks})", _fields(decision))
    return KeptDecisions(**counts)


def decisions_on(db: sqlite3.Connection, sha256: str) -> list[FaceDecision]:
    """Find the decisions on the faces of a file."""
    query = f"SELECT {_COLUMNS} FROM decision WHERE sha256 = ? ORDER BY face"
    return [_decision(row) for row in db.execute(query, (sha256,))]


def all_decisions(db: sqlite3.Connection) -> Iterator[FaceDecision]:
    """Yield all decisions, the oldest first."""
    return map(_decision, db.execute(f"SELECT {_COLUMNS} FROM decision ORDER BY decided_at, sha256, face"))


def _fields(decision: FaceDecision) -> tuple[Any, ...]:
    place = None if decision.place is None else json.dumps(decision.place)
    hashes = (decision.picture_hash, decision.crop_hash)
    return (
        decision.sha256,
        _NO_FACE if decision.face is None else decision.face,
        os.fsencode(decision.path),
        decision.decision,
        decision.decided_at,
        decision.looked_at,
        decision.verdict,
        decision.score,
        decision.n_faces,
        place,
        *(None if each is None else f"{each:016x}" for each in hashes),  # SQLite has no unsigned 64 bits
    )


def _decision(row: tuple[Any, ...]) -> FaceDecision:
    found = FaceDecision(*row)
    hashes = (found.picture_hash, found.crop_hash)
    picture, crop = (None if each is None else int(str(each), 16) for each in hashes)
    return found._replace(
        face=None if found.face == _NO_FACE else found.face,
        path=os.fsdecode(found.path),
        looked_at=bool(found.looked_at),
        place=None if found.place is None else tuple(json.loads(str(found.place))),
        picture_hash=picture,
        crop_hash=crop,
    )
