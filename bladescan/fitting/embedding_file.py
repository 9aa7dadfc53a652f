"""Embeddings that were computed before, in one SQLite file: a second fit on the same pictures reads none.

A picture is recognised by its path, size and time of change; an entry holds only for the encoder, the face
finder and the copies that it was made with. What is in the file are numbers; nothing in it can run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError
from bladescan.fitting.copies import Identity
from bladescan.sources.source import Source

APPLICATION_ID = 0x62736965
"""What marks an SQLite file as embeddings of bladescan."""

_VERSION = 2
"""Of the table, and of how copies are drawn."""

_SCHEMA = """
CREATE TABLE picture (
    key BLOB NOT NULL PRIMARY KEY, finder TEXT NOT NULL, reason TEXT NOT NULL,
    n_faces INTEGER NOT NULL, n_rows INTEGER NOT NULL, rows BLOB NOT NULL,
    sha256 BLOB NOT NULL, likeness BLOB);
"""
_COMMIT_EVERY = 16


class PictureEmbeddings(NamedTuple):
    """What is known of one picture.

    Attributes:
        rows: float32 ``[n_faces, 1 + n_copies, d]``: each face, then its degraded copies.
        finder: name of the face finder.
        reason: why it has no face, empty if it has.
        identity: tells it from others, and from its copies.
    """

    rows: NDArray[np.float32]
    finder: str
    reason: str
    identity: Identity


class EmbeddingFile:
    """An open file of embeddings.

    Args:
        db: the database.
        made_with: everything but the picture that decides what its embeddings are.
    """

    def __init__(self, db: sqlite3.Connection, made_with: dict[str, Any]) -> None:
        self._db, self._n_added = db, 0
        self._made_with = json.dumps(made_with, sort_keys=True).encode()

    def find(self, source: Source) -> PictureEmbeddings | None:
        """Look up a picture; None if it is not there, has changed, or is no file of this machine."""
        key = self._key(source)
        if key is None:
            return None
        asked = "SELECT finder, reason, n_faces, n_rows, rows, sha256, likeness FROM picture WHERE key = ?"
        row = self._db.execute(asked, (key,)).fetchone()
        if row is None:
            return None
        finder, reason, n_faces, n_rows, data, sha256, likeness = row
        rows = np.frombuffer(data, np.float32).reshape(n_faces, n_rows, -1 if data else 0)
        identity = Identity(sha256, None if likeness is None else int.from_bytes(likeness))
        return PictureEmbeddings(rows, finder, reason, identity)

    def add(self, source: Source, found: PictureEmbeddings) -> None:
        """Keep what was found of a picture that is a file of this machine."""
        key = self._key(source)
        if key is None:
            return
        sha256, likeness = found.identity
        look = None if likeness is None else likeness.to_bytes(8)
        faces = (*found.rows.shape[:2], found.rows.tobytes())
        values = (key, found.finder, found.reason, *faces, sha256, look)
        self._db.execute("INSERT OR REPLACE INTO picture VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._n_added += 1
        if self._n_added % _COMMIT_EVERY == 0:
            self._db.commit()

    def _key(self, source: Source) -> bytes | None:
        try:
            stat = os.stat(source.name)
        except (OSError, ValueError):
            return None
        file = f"{stat.st_size}:{stat.st_mtime_ns}:".encode() + os.fsencode(os.path.realpath(source.name))
        return hashlib.sha256(hashlib.sha256(self._made_with).digest() + file).digest()


@contextmanager
def open_embedding_file(path: Path, made_with: dict[str, Any]) -> Iterator[EmbeddingFile]:
    """Open or create a file of embeddings.

    Args:
        path: of the file.
        made_with: plain values that decide, beside the picture, what its embeddings are.

    Raises:
        DataError: it is something else, or cannot be used.
    """
    try:
        with closing(sqlite3.connect(path, timeout=60)) as db:
            _prepare(db, path)
            file = EmbeddingFile(db, made_with)
            try:
                yield file
            finally:
                db.commit()
    except sqlite3.Error as exc:
        raise DataError(f"{path}: cannot be used to keep embeddings: {exc}") from exc


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    (found,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    empty = not db.execute("SELECT 1 FROM sqlite_master").fetchone()
    if not empty and (found, version) != (APPLICATION_ID, _VERSION):
        raise DataError(f"{path}: is no file of embeddings of this bladescan: choose another name")
    if empty:
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {_VERSION}")
    db.execute("PRAGMA journal_mode = WAL")
