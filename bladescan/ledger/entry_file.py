"""A SQLite file with an entry for each source: what `journal` and `ledger` have in common.

A scan writes with one connection, and looks up with another in the thread that lists its sources. It never
finds what it wrote itself, so that a name listed twice is scanned twice whatever the timing.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, NamedTuple

from bladescan.base import clock
from bladescan.base.errors import OutputError, UsageError
from bladescan.base.records import ImageRecord
from bladescan.ledger.entries import OTHER, LedgerEntry, VerdictSettings, decode, encode
from bladescan.sources.source import Stamp

SCHEMA_VERSION = 3
CHUNK = 64
CHUNK_S = 1.0
"""Entries become durable after this many, or after this time."""
_SCHEMA = (
    "CREATE TABLE settings (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, described TEXT NOT NULL)",
    """CREATE TABLE run (
        id INTEGER PRIMARY KEY AUTOINCREMENT, started INTEGER NOT NULL,
        settings INTEGER NOT NULL REFERENCES settings (id))""",
    """CREATE TABLE entry (
        key BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, mark TEXT NOT NULL, verdict TEXT NOT NULL,
        record TEXT NOT NULL, scanned_at INTEGER NOT NULL,
        settings INTEGER NOT NULL REFERENCES settings (id), run INTEGER NOT NULL REFERENCES run (id))""",
    "CREATE INDEX entry_counts ON entry (settings, verdict)",
)
COLUMNS = "key, size, mark, verdict, record, scanned_at"


class FileKind(NamedTuple):
    """Which of the two uses a file is for.

    Attributes:
        application_id: SQLite's.
        noun: what users call it.
        schema: statements that make what this kind has besides entries.
    """

    application_id: int
    noun: str
    schema: tuple[str, ...] = ()


@contextmanager
def mapped_errors(path: str, noun: str) -> Iterator[None]:
    """Turn SQLite's errors into one line about a file.

    Args:
        path: of the file.
        noun: what it is called.

    Raises:
        UsageError: it is no database.
        OutputError: any other error.
    """
    try:
        yield
    except sqlite3.DatabaseError as exc:
        if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            raise UsageError(f"{path}: is not a {noun}; give the name of one, or of a new file") from exc
        way_out = _WAYS_OUT.get(getattr(exc, "sqlite_errorcode", 0) & 0xFF, "")
        raise OutputError(f"{noun} {path}: {exc}{way_out}") from exc


_NOT_WRITABLE = "; even reading it needs write permission for the file and its folder"
_WAYS_OUT = {
    sqlite3.SQLITE_READONLY: _NOT_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _NOT_WRITABLE,  # the log beside it cannot be made
    sqlite3.SQLITE_CORRUPT: "; move it away, or repair it with .recover of the sqlite3 command",
}


def connect(path: str) -> sqlite3.Connection:
    """Open a connection in autocommit mode, usable in one thread at a time."""
    db = sqlite3.connect(os.path.abspath(path), timeout=60, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA synchronous = FULL")
    return db


class EntryFile:
    """A file of entries, open for writing; made if it is missing.

    Raises:
        UsageError: it is another kind of file, or of a later version.
        OutputError: it cannot be written.
    """

    def __init__(self, path: str, kind: FileKind) -> None:
        self.path, self.kind = path, kind
        self._held: list[tuple[Any, ...]] = []
        self._flushed = time.monotonic()
        self.settings = self.run = 0
        with self.mapped_errors():
            self.db = connect(path)
            try:
                check_kind(self.db, path, kind)
                self.db.execute("PRAGMA journal_mode = WAL")
                _prepare(self.db, kind)
            except BaseException:
                self.db.close()
                raise

    def mapped_errors(self) -> Any:
        """Turn SQLite's errors into one line about this file."""
        return mapped_errors(self.path, self.kind.noun)

    def count(self) -> int:
        """Count the entries in the file."""
        with self.mapped_errors():
            return int(self.db.execute("SELECT count(*) FROM entry").fetchone()[0])

    def begin_run(self, settings: VerdictSettings) -> None:
        """Start a new run; only later runs will find what it puts."""
        with self.mapped_errors(), transaction(self.db):
            self.db.execute("INSERT OR IGNORE INTO settings (digest, described) VALUES (?, ?)", settings)
            query = "SELECT id FROM settings WHERE digest = ?"
            self.settings = int(self.db.execute(query, settings[:1]).fetchone()[0])
            run = (int(clock.now().timestamp()), self.settings)
            insert = "INSERT INTO run (started, settings) VALUES (?, ?)"
            self.run = int(self.db.execute(insert, run).lastrowid or 0)

    def put(self, entry: LedgerEntry, *, at_once: bool = True) -> None:
        """Keep an entry. It becomes durable after `CHUNK` more, after `CHUNK_S`, or by `flush`.

        Args:
            entry: replaces an older one of the same key.
            at_once: False if losing it costs little: it then waits for the time alone.
        """
        (key, stamp, record), now = entry, int(clock.now().timestamp())
        verdict = OTHER if record.is_other else record.verdict.value
        fields = (key, *stamp, verdict, encode(record), now, self.settings, self.run)
        self._held.append(fields)
        long_ago = time.monotonic() - self._flushed > CHUNK_S
        if long_ago or (at_once and len(self._held) % CHUNK == 0) or len(self._held) >= 64 * CHUNK:
            self.flush()

    def flush(self) -> None:
        """Make every entry that was put durable."""
        with self.mapped_errors(), transaction(self.db):
            marks = ",".join("?" * 8)
            self.db.executemany(
                f"INSERT OR REPLACE INTO entry ({COLUMNS}, settings, run) VALUES ({marks})", self._held
            )
        self._held.clear()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Close the file; what was put and not flushed is lost."""
        with suppress(sqlite3.Error):
            self.db.close()

    @contextmanager
    def lookup(self) -> Iterator[EntryLookup]:
        """Open a connection of its own to find entries of earlier runs made with the settings of this one."""
        with self.mapped_errors(), closing(connect(self.path)) as db:
            yield EntryLookup(db, self.settings, self.run)


class EntryLookup:
    """Finds entries of earlier runs. For one thread."""

    def __init__(self, db: sqlite3.Connection, settings: int, run: int) -> None:
        self._db, self._settings, self._run = db, settings, run

    def find(self, key: bytes, stamp: Stamp, name: str) -> ImageRecord | None:
        """Find the record of a source that has not changed.

        Args:
            key: of the source.
            stamp: of the source now.
            name: that the record is given, for a source may be named in several ways.
        """
        query = (
            "SELECT record FROM entry WHERE key = ? AND size = ? AND mark = ? AND settings = ? AND run < ?"
        )
        row = self._db.execute(query, (key, *stamp, self._settings, self._run)).fetchone()
        return None if row is None else decode(row[0], name)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside, or none of it if that raises."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk may have rolled it back already
            db.execute("ROLLBACK")
        raise


def check_kind(db: sqlite3.Connection, path: str, kind: FileKind) -> None:
    """Raise UsageError unless the file is new or of this kind, and of this version."""
    application_id = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if application_id == kind.application_id and version > SCHEMA_VERSION:
        raise UsageError(f"{path}: a {kind.noun} of a later version of bladescan; upgrade it")
    if application_id == kind.application_id and 0 < version < SCHEMA_VERSION:
        raise UsageError(f"{path}: a {kind.noun} of an earlier version of bladescan; remove it to start anew")
    is_new = not (application_id or version or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if application_id != kind.application_id and not is_new:
        raise UsageError(f"{path}: is not a {kind.noun} but another program's database")


def _prepare(db: sqlite3.Connection, kind: FileKind) -> None:
    with transaction(db):  # this also shows that the file can be written
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in (*_SCHEMA, *kind.schema):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {kind.application_id}")
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
