"""The index: the one file that keeps the photographs to learn from.

The index is one SQLite file. For every photograph, keyed by the SHA-256 of its content, it holds the EXIF
tags, the camera, and either the largest face with some context around it, its box and its five landmarks, or,
where there is no face, a patch with texture. It survives a kill and is used again by every later run. Nothing
in it can run code. `indexing` fills it, many photographs at a time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from bladescan.base.errors import DataError
from bladescan.photographs.photograph import Photograph, PhotographKind, Tags
from bladescan.tasks.pretext_tasks import ORIGIN, TASKS

SCHEMA_VERSION = 2
"""Of the tables, and of how tags are read and faces and patches are cut: a new one fills every index anew."""

APPLICATION_ID = 0x62736978
"""What marks an SQLite file as an index of photographs."""

_SCHEMA = """
CREATE TABLE photograph (
    digest TEXT NOT NULL, finder TEXT NOT NULL, kind TEXT NOT NULL, reason TEXT,
    tags TEXT NOT NULL, camera TEXT NOT NULL,
    pixels BLOB, x0 REAL, y0 REAL, x1 REAL, y1 REAL, landmarks BLOB,
    PRIMARY KEY (digest, finder));
CREATE TABLE file (
    path BLOB NOT NULL PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, note TEXT NOT NULL,
    digest TEXT NOT NULL);
"""

_FIRST_SCHEMA_COLUMNS = "digest finder reason pixels x0 y0 x1 y1 landmarks".split()


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """What the index says of one photograph, without its pixels.

    Attributes:
        digest: its key.
        kind: ``face``, ``patch``, or ``none`` where it gave neither.
        tags: EXIF by task name.
        camera: make and model, empty where unknown.
        reason: why it is left out, None where it is not.
    """

    digest: str
    kind: PhotographKind
    tags: Tags
    camera: str
    reason: str | None


class FileStamp(NamedTuple):
    """How a file was found. One that still looks the same is not read again.

    Attributes:
        path: absolute, in the file system's own bytes.
        size: in bytes.
        mtime_ns: time of its last change.
        annotation: digest of what stands of it in another file, empty where nothing does.
    """

    path: bytes
    size: int
    mtime_ns: int
    annotation: str = ""


Row = tuple[object, ...]
"""A photograph as the file holds it, without its key."""


class Record(NamedTuple):
    """What there is to store of one photograph. Crosses processes.

    Attributes:
        digest: its key.
        row: from `encoded`; None where the index has it already.
        file: which file it was, to be known again; None if that is not to be kept.
    """

    digest: str
    row: Row | None
    file: FileStamp | None


def encoded(photograph: Photograph | None, reason: str | None = None) -> Row:
    """Encode a photograph, or the reason why there is none, as a row."""
    if photograph is None:
        return ("none", reason, "{}", "", None, None, None, None, None, None)
    # PNG at its fastest: lossless, a third of the raw size.
    bgr = cv2.cvtColor(photograph.pixels, cv2.COLOR_RGB2BGR)
    png = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    marks = None if photograph.landmarks is None else photograph.landmarks.astype("<f4").tobytes()
    tags = json.dumps(dict(photograph.tags), allow_nan=False)
    box = photograph.box or (None, None, None, None)
    return (photograph.kind, None, tags, photograph.camera, png, *box, marks)


class PhotographIndex:
    """The index file. It may be opened in many processes at once; every call has its own connection.

    An index of an earlier version is a cache and no more: it is emptied, and ``notice`` says so.

    Args:
        path: of the file; made if missing.
        finder: name of the face finder: faces found by another one are not used.
        generated: digests of AI-generated pictures; then each picture has its origin among its tags. None
            where nobody has said what is AI-generated.

    Attributes:
        notice: one line for the user, or empty.

    Raises:
        DataError: the file is not an index, or is one of a later version.
    """

    def __init__(self, path: Path, finder: str, generated: frozenset[str] | None = None) -> None:
        self.path, self.finder, self._generated = path, finder, generated
        with self._open() as db:
            self.notice = _prepare(db, path)

    def add(self, digest: str, photograph: Photograph | None, reason: str | None = None) -> None:
        """Store a photograph, or why there is none."""
        self.add_all([Record(digest, encoded(photograph, reason), None)])

    def add_all(self, records: Iterable[Record]) -> None:
        """Store records, all or none: waiting for the disk once is much quicker than once for each."""
        columns = ",".join("?" * 12)
        with self._open() as db, db:
            for digest, row, file in records:
                if row is not None:
                    values = (digest, self.finder, *row)
                    db.execute(f"INSERT OR REPLACE INTO photograph VALUES ({columns})", values)
                if file is not None:
                    db.execute("INSERT OR REPLACE INTO file VALUES (?,?,?,?,?)", (*file, digest))

    def files(self) -> dict[FileStamp, str]:
        """Return, for every file that was read, as it was found then, the digest of its content."""
        with self._open() as db:
            rows = db.execute("SELECT path, size, mtime_ns, note, digest FROM file").fetchall()
        return {FileStamp(*stamp): digest for *stamp, digest in rows}

    def known(self) -> dict[str, tuple[PhotographKind, str | None]]:
        """Map the digest of every photograph of this finder to its kind and reason."""
        with self._open() as db:
            query = "SELECT digest, kind, reason FROM photograph WHERE finder = ?"
            return {digest: (kind, reason) for digest, kind, reason in db.execute(query, (self.finder,))}

    def knows(self, digest: str) -> tuple[PhotographKind, str | None] | None:
        """Look up kind and reason of one photograph; None if it is not in the index."""
        query = "SELECT kind, reason FROM photograph WHERE digest = ? AND finder = ?"
        with self._open() as db:
            found: tuple[PhotographKind, str | None] | None = db.execute(
                query, (digest, self.finder)
            ).fetchone()
        return found

    def entries(self) -> list[IndexEntry]:
        """List all photographs of this finder, also those left out, in order of their digests."""
        query = "SELECT digest, kind, tags, camera, reason FROM photograph WHERE finder = ? ORDER BY digest"
        with self._open() as db:
            rows = db.execute(query, (self.finder,)).fetchall()
        return [
            IndexEntry(digest, kind, self._tags(digest, tags), camera, reason)
            for digest, kind, tags, camera, reason in rows
        ]

    def get(self, digest: str) -> Photograph:
        """Read one photograph.

        Raises:
            DataError: it is not there.
        """
        columns = "pixels, x0, y0, x1, y1, landmarks, tags, camera"
        query = f"SELECT {columns} FROM photograph WHERE digest = ? AND finder = ?"
        with self._open() as db:
            row = db.execute(query, (digest, self.finder)).fetchone()
        if row is None or row[0] is None:
            raise DataError(f"{self.path}: has neither a face nor a patch of the photograph {digest[:12]}")
        png, x0, y0, x1, y1, marks, tags, camera = row
        bgr = np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), np.uint8)
        pixels = np.ascontiguousarray(bgr[..., ::-1])
        if x0 is None:
            return Photograph(pixels, None, None, self._tags(digest, tags), camera)
        landmarks = np.frombuffer(marks, "<f4").reshape(-1, 2).astype(np.float32)
        return Photograph(pixels, (x0, y0, x1, y1), landmarks, self._tags(digest, tags), camera)

    def _tags(self, digest: str, stored: str) -> Tags:
        """Read the tags of a picture, and add its origin where that is known."""
        tags: dict[str, float | str] = json.loads(stored)
        if self._generated is not None:
            tags[ORIGIN] = TASKS[ORIGIN].classes[digest in self._generated]
        return tags

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=60)) as db:
                yield db
        except sqlite3.Error as exc:
            raise DataError(f"{self.path}: cannot be used as an index of photographs: {exc}") from exc


def _prepare(db: sqlite3.Connection, path: Path) -> str:
    """Make the tables if need be, and return a line for the user, or nothing."""
    if _version(db, path) == SCHEMA_VERSION:
        return ""
    db.isolation_level = None
    db.execute("BEGIN IMMEDIATE")  # several runs may come here at once
    version = _version(db, path)
    if version != SCHEMA_VERSION:
        db.execute("DROP TABLE IF EXISTS photograph")
        db.execute("DROP TABLE IF EXISTS file")
        for statement in _SCHEMA.strip().split(";")[:-1]:
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")
    old = version in range(1, SCHEMA_VERSION)
    return f"{path}: made by an earlier version; it is filled again" if old else ""


def _version(db: sqlite3.Connection, path: Path) -> int:
    """Read the schema version of a file, 0 of an empty one.

    Raises:
        DataError: it is something else, or newer.
    """
    (application,), (version,) = (
        db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if application == APPLICATION_ID and version > SCHEMA_VERSION:
        raise DataError(f"{path}: made by a later version of bladescan; upgrade it, or use another file")
    if application == APPLICATION_ID:
        return int(version)
    if not tables and not application and not version:
        return 0
    columns = [row[1] for row in db.execute("PRAGMA table_info(photograph)")]
    if tables == {"photograph"} and columns == _FIRST_SCHEMA_COLUMNS:
        return 1
    raise DataError(f"{path}: cannot be used as an index of photographs: it is another program's database")
