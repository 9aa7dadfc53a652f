"""The ledger: what was scanned, by which detector and with which verdict, for years and millions of sources.

One scan at a time writes a ledger, under a lock beside it; others may read it meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import NamedTuple

from bladescan.base.errors import BladescanError, OutputError, UsageError
from bladescan.base.locks import FileLock, LockHeldError
from bladescan.base.records import ImageRecord, Verdict
from bladescan.ledger.decision_table import (
    DECISION_TABLE,
    KeptDecisions,
    all_decisions,
    decisions_on,
    keep_decisions,
)
from bladescan.ledger.decisions import FaceDecision
from bladescan.ledger.entries import OTHER, decode
from bladescan.ledger.entry_file import (
    COLUMNS,
    EntryFile,
    FileKind,
    check_kind,
    connect,
    mapped_errors,
    transaction,
)
from bladescan.ledger.journal import Journal
from bladescan.sources.addresses import is_url

KIND = FileKind(0x626C644C, "ledger", (DECISION_TABLE,))


class Ledger(EntryFile):
    """A ledger and its lock.

    Raises:
        UsageError: the file is something else, or another process writes it.
        OutputError: it cannot be written.
    """

    def __init__(self, path: str) -> None:
        _check_place(path)
        self._lock = _lock(path)
        try:
            super().__init__(path, KIND)
        except BaseException:
            self._lock.release()
            raise

    def absorb(self, journal: Journal) -> None:
        """Take over what this run put into its journal, all or nothing.

        Raises:
            OutputError: it cannot be written; nothing was taken over.
        """
        journal.flush()
        with self.mapped_errors():
            self.db.execute("ATTACH DATABASE ? AS journal", (os.fsencode(journal.path),))
            with transaction(self.db):
                self.db.execute(
                    f"INSERT OR REPLACE INTO entry ({COLUMNS}, settings, run) "
                    f"SELECT {COLUMNS}, ?, ? FROM journal.entry WHERE run = ?",
                    (self.settings, self.run, journal.run),
                )
            self.db.execute("DETACH DATABASE journal")

    def keep_decisions(self, decisions: Iterable[FaceDecision]) -> KeptDecisions:
        """Keep decisions, all or none; on a face the one that counts more stays, as `FaceDecision.rank` says.

        Raises:
            OutputError: it cannot be written.
        """
        with self.mapped_errors(), transaction(self.db):
            return keep_decisions(self.db, decisions)

    def decided(self, sha256: str) -> list[FaceDecision]:
        """Find the decisions on the faces of a file by its content."""
        with self.mapped_errors():
            return decisions_on(self.db, sha256)

    def prune(self, rule: PruneRule, *, dry_run: bool = False) -> int:
        """Remove the entries to which any part of a rule applies.

        Args:
            rule: which entries to remove.
            dry_run: count them only.

        Returns:
            Their number.
        """
        n = 0
        with self.mapped_errors():
            current = _current_settings(self.db)
            for chunk in _chunks(self.db):
                doomed = [(row.id,) for row in chunk if _is_doomed(row, rule, current)]
                n += len(doomed)
                if doomed and not dry_run:
                    with transaction(self.db):
                        self.db.executemany("DELETE FROM entry WHERE rowid = ?", doomed)
        return n

    def close(self) -> None:
        """Close the file and let others write it."""
        with suppress(BladescanError):
            self.flush()
        super().close()
        self._lock.release()


class PruneRule(NamedTuple):
    """Which entries to remove.

    Attributes:
        gone: those whose file no longer exists; objects in buckets are not looked up.
        before: those made before a time, in seconds since 1970.
        stale: those made with other settings than the newest run's.
    """

    gone: bool = False
    before: float | None = None
    stale: bool = False


class _Row(NamedTuple):
    id: int
    key: bytes
    scanned_at: int
    settings: int


def _chunks(db: sqlite3.Connection) -> Iterator[list[_Row]]:
    """Yield all entries in chunks, so that none is read while others are removed."""
    last = -1
    query = "SELECT rowid, key, scanned_at, settings FROM entry WHERE rowid > ? ORDER BY rowid LIMIT 10000"
    while chunk := [_Row(*row) for row in db.execute(query, (last,))]:
        yield chunk
        last = chunk[-1].id


def _is_doomed(row: _Row, rule: PruneRule, current: int) -> bool:
    if rule.before is not None and row.scanned_at < rule.before:
        return True
    return (rule.stale and row.settings != current) or (rule.gone and _is_gone(row.key))


def _is_gone(key: bytes) -> bool:
    if is_url(os.fsdecode(key)):
        return False
    try:
        os.stat(key)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # it cannot be told
        return False
    return False


def _current_settings(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT settings FROM run ORDER BY id DESC LIMIT 1").fetchone()
    return int(row[0]) if row else 0


# Reading, which needs no lock


class EntryCount(NamedTuple):
    """How many entries there are with one verdict, by scans with the same settings.

    Attributes:
        settings: of the scans that made them, as JSON.
        current: whether those are the newest run's.
    """

    settings: str
    current: bool
    verdict: Verdict
    n: int


class DatedRecord(NamedTuple):
    """The record of an entry, and when it was made, in seconds since 1970."""

    record: ImageRecord
    scanned_at: int


class LedgerReader:
    """A ledger open for reading, which may be written meanwhile."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def runs(self) -> tuple[int, int]:
        """Count the runs that wrote it; also return when the last began, in seconds since 1970."""
        n, last = self._db.execute("SELECT count(*), max(started) FROM run").fetchone()
        return int(n), int(last or 0)

    def counts(self) -> list[EntryCount]:
        """Count entries by settings and verdict, the newest run's settings first."""
        current = _current_settings(self._db)
        rows = self._db.execute(
            "SELECT described, settings = ?, verdict, n FROM "
            "(SELECT settings, verdict, count(*) AS n FROM entry WHERE verdict != ? "
            "GROUP BY settings, verdict) "
            "JOIN settings ON settings.id = settings ORDER BY settings = ? DESC, settings DESC, verdict",
            (current, OTHER, current),
        )
        return [EntryCount(described, bool(now), Verdict(verdict), n) for described, now, verdict, n in rows]

    def decisions(self) -> Iterator[FaceDecision]:
        """Yield all decisions that are kept."""
        return all_decisions(self._db)

    def decided(self, sha256: str) -> list[FaceDecision]:
        """Find the decisions on the faces of a file by its content."""
        return decisions_on(self._db, sha256)

    def current(self) -> str:
        """Return the settings of the newest run, as JSON."""
        query = "SELECT described FROM settings WHERE id = ?"
        row = self._db.execute(query, (_current_settings(self._db),)).fetchone()
        return row[0] if row else "{}"

    def entries(self, verdict: Verdict | None = None, *, only_current: bool = False) -> Iterator[DatedRecord]:
        """Yield entries in the order of their names' bytes."""
        query = (
            "SELECT key, record, scanned_at FROM entry WHERE (? IS NULL OR verdict = ?) AND verdict != ? "
            "AND (? OR settings = ?) ORDER BY key"
        )
        name = None if verdict is None else verdict.value
        parameters = (name, name, OTHER, not only_current, _current_settings(self._db))
        for key, text, scanned_at in self._db.execute(query, parameters):
            record = decode(text, os.fsdecode(key))
            if record is not None:
                yield DatedRecord(record, scanned_at)


@contextmanager
def open_reader(path: str) -> Iterator[LedgerReader]:
    """Open a ledger for reading.

    Raises:
        UsageError: there is none.
        OutputError: it cannot be read.
    """
    if not os.path.isfile(path):
        raise UsageError(f"{path}: no such ledger; bladescan scan --ledger {path} makes one")
    with mapped_errors(path, KIND.noun), closing(connect(path)) as db:
        check_kind(db, path, KIND)
        if not db.execute("PRAGMA user_version").fetchone()[0]:
            raise UsageError(f"{path}: is not a ledger: it is empty")
        db.execute("PRAGMA query_only = ON")
        yield LedgerReader(db)


def _check_place(path: str) -> None:
    place = os.path.realpath(path)
    if os.path.isdir(place):
        raise UsageError(f"ledger {path!r}: is a folder; give a file name in it")
    if os.path.exists(place) and not os.path.isfile(place):
        raise UsageError(f"ledger {path}: is a device or a pipe; give the name of a file")


def _lock(path: str) -> FileLock:
    try:
        return FileLock(os.path.realpath(path) + ".lock")
    except LockHeldError as exc:
        raise UsageError(f"ledger {path}: another bladescan is writing it ({exc})") from exc
    except OSError as exc:
        raise OutputError(f"ledger {path}: {exc.strerror}") from exc
