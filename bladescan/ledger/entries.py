"""Verdicts that outlast their run: a SQLite file with an entry for each source.

An entry is good for a source whose stamp (size, and time or ETag) is the same and for a scan whose settings
are the same; it is used in place of reading. A scan writes with one connection, and looks up with another in
the thread that lists its sources. It never finds what it wrote itself, so that a name listed twice is
scanned twice whatever the timing.

`journal` and `ledger` are the two uses.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from typing import Any, NamedTuple

import msgspec

from bladescan.base import clock
from bladescan.base.errors import OutputError, UsageError
from bladescan.base.records import ImageRecord, Reason
from bladescan.sources.addresses import is_url
from bladescan.sources.source import Source, Stamp

SCHEMA_VERSION = 1
CHUNK = 64
CHUNK_S = 1.0
"""Entries become durable after so many, or so long."""
TRANSIENT = frozenset(
    (Reason.TIMEOUT, Reason.READ_ERROR, Reason.PERMISSION_DENIED, Reason.VANISHED, Reason.NOT_FOUND)
    + (Reason.DECODER_CRASHED,)
)
"""Reasons that may be gone the next time."""
_CREDENTIALS = re.compile(r"(?<=://)[^/?#]*@")
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


class LedgerEntry(NamedTuple):
    """What is kept of a source."""

    key: bytes
    stamp: Stamp
    record: ImageRecord


class VerdictSettings(NamedTuple):
    """What decides what a record says. Entries made with other settings are not used."""

    digest: str
    described: str

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> VerdictSettings:
        """From names and plain values."""
        described = json.dumps(fields, sort_keys=True)
        return cls(hashlib.sha256(described.encode()).hexdigest(), described)

    def differences(self, other: str) -> list[str]:
        """Names of the fields in which another description differs."""
        ours, theirs = json.loads(self.described), json.loads(other)
        return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


class FileKind(NamedTuple):
    """Which of the two uses a file is for, and what it is called."""

    application_id: int
    noun: str


def key_of(name: str) -> bytes:
    """What names a source whatever the folder that a scan runs in: its URL, or the bytes of its path."""
    if is_url(name):
        return os.fsencode(_CREDENTIALS.sub("", name))
    # Behind a link .. is not what the path's text says; a NUL is in no path, and nothing can resolve it.
    if ".." in name.split("/") and "\0" not in name:
        name = os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))
    return os.fsencode(os.path.abspath(name))


def stamp_of(source: Source) -> Stamp | None:
    """What the listing tells of it, or for a file the file system; None where it cannot be told."""
    if source.stamp is not None or source.problem is not None or is_url(source.name):
        return source.stamp
    try:
        status = os.stat(source.name)
    except (OSError, ValueError):
        return None
    return None if _may_change_unseen(status.st_mtime_ns) else Stamp(status.st_size, str(status.st_mtime_ns))


def _may_change_unseen(mtime_ns: int) -> bool:
    """Whether a file is so fresh that one more change could leave it with the same time."""
    tick_s = 2.0 if mtime_ns % 1_000_000_000 == 0 else 0.02  # FAT's, and the slowest of kernels
    return abs(time.time() - mtime_ns / 1e9) < tick_s


def is_lasting(record: ImageRecord) -> bool:
    """Whether a second look at an unchanged source would say the same."""
    return record.reason not in TRANSIENT


def encode(record: ImageRecord) -> str:
    """A record without its name, which is the scan's to say. JSON, ASCII."""
    fields = asdict(record)
    del fields["source"], fields["cost"]  # what a run spent is that run's alone
    return json.dumps(fields, separators=(",", ":"))


def decode(text: str, name: str) -> ImageRecord | None:
    """The record under a name; None if the text is no record."""
    try:
        return msgspec.convert({"source": name, **json.loads(text)}, ImageRecord)
    except (ValueError, TypeError, msgspec.MsgspecError):
        return None


@contextmanager
def mapped(path: str, noun: str) -> Iterator[None]:
    """Turn SQLite's errors into one line."""
    try:
        yield
    except sqlite3.DatabaseError as exc:
        if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            raise UsageError(f"{path}: is not a {noun}; give its name, or that of a new file") from exc
        way_out = _WAYS_OUT.get(getattr(exc, "sqlite_errorcode", 0) & 0xFF, "")
        raise OutputError(f"{noun} {path}: {exc}{way_out}") from exc


_NOT_WRITABLE = "; even to read it needs write permission, for its folder too"
_WAYS_OUT = {
    sqlite3.SQLITE_READONLY: _NOT_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _NOT_WRITABLE,  # the log beside it cannot be made
    sqlite3.SQLITE_CORRUPT: "; move it away and begin anew, or mend it with .recover of the sqlite3 command",
}


def connect(path: str) -> sqlite3.Connection:
    """A connection in autocommit mode, usable in one thread at a time."""
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
        with self.mapped():
            self.db = connect(path)
            try:
                check_kind(self.db, path, kind)
                self.db.execute("PRAGMA journal_mode = WAL")
                _prepare(self.db, kind)
            except BaseException:
                self.db.close()
                raise

    def mapped(self) -> Any:
        """See `mapped`."""
        return mapped(self.path, self.kind.noun)

    def count(self) -> int:
        """Entries in the file."""
        with self.mapped():
            return int(self.db.execute("SELECT count(*) FROM entry").fetchone()[0])

    def begin_run(self, settings: VerdictSettings) -> None:
        """Number a new run; what it puts is found by later ones only."""
        with self.mapped(), transaction(self.db):
            self.db.execute("INSERT OR IGNORE INTO settings (digest, described) VALUES (?, ?)", settings)
            query = "SELECT id FROM settings WHERE digest = ?"
            self.settings = int(self.db.execute(query, settings[:1]).fetchone()[0])
            run = (int(clock.now().timestamp()), self.settings)
            insert = "INSERT INTO run (started, settings) VALUES (?, ?)"
            self.run = int(self.db.execute(insert, run).lastrowid or 0)

    def put(self, entry: LedgerEntry, *, at_once: bool = True) -> None:
        """Keep an entry. It is durable after `CHUNK` more, `CHUNK_S`, or `flush`.

        Args:
            entry: to keep, in the place of an older one.
            at_once: False where losing it costs little: it waits for the time alone.
        """
        (key, stamp, record), now = entry, int(clock.now().timestamp())
        fields = (key, *stamp, record.verdict.value, encode(record), now, self.settings, self.run)
        self._held.append(fields)
        long_ago = time.monotonic() - self._flushed > CHUNK_S
        if long_ago or (at_once and len(self._held) % CHUNK == 0) or len(self._held) >= 64 * CHUNK:
            self.flush()

    def flush(self) -> None:
        """Make all that was put durable."""
        with self.mapped(), transaction(self.db):
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
    def lookup(self) -> Iterator[Lookup]:
        """Find entries of earlier runs with the settings of this one, with a connection of its own."""
        with self.mapped(), closing(connect(self.path)) as db:
            yield Lookup(db, self.settings, self.run)


class Lookup:
    """Finds entries; for one thread."""

    def __init__(self, db: sqlite3.Connection, settings: int, run: int) -> None:
        self._db, self._settings, self._run = db, settings, run

    def find(self, key: bytes, stamp: Stamp, name: str) -> ImageRecord | None:
        """The record of a source that has not changed, under its name of today."""
        query = (
            "SELECT record FROM entry WHERE key = ? AND size = ? AND mark = ? AND settings = ? AND run < ?"
        )
        row = self._db.execute(query, (key, *stamp, self._settings, self._run)).fetchone()
        return None if row is None else decode(row[0], name)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk may have rolled it back already
            db.execute("ROLLBACK")
        raise


def check_kind(db: sqlite3.Connection, path: str, kind: FileKind) -> None:
    """Raise UsageError unless the file is new or of this kind, and of a version that is understood."""
    application_id = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if application_id == kind.application_id and version > SCHEMA_VERSION:
        raise UsageError(f"{path}: a {kind.noun} of a later version of bladescan; use that version")
    is_new = not (application_id or version or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if application_id != kind.application_id and not is_new:
        raise UsageError(f"{path}: is not a {kind.noun} but another program's database")


def _prepare(db: sqlite3.Connection, kind: FileKind) -> None:
    with transaction(db):  # also shows that the file can be written
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in _SCHEMA:
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {kind.application_id}")
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
