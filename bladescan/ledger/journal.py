"""What a scan into a file has finished so far, kept beside that file, so that a killed scan can be resumed.

The journal exists from the first record until the output is complete; a lock beside it says whose it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import NamedTuple

from bladescan.base.errors import BladescanError, OutputError, UsageError
from bladescan.base.locks import FileLock, LockHeldError
from bladescan.base.text import counted
from bladescan.ledger.entries import LedgerEntry, VerdictSettings
from bladescan.ledger.entry_file import EntryFile, FileKind, check_kind, connect

KIND = FileKind(0x626C644A, "scan's journal")
_LONGEST = 200


def journal_path(output: str) -> str:
    """Return the path of an output's journal: hidden, in the same folder."""
    folder, name = os.path.split(os.path.realpath(output))
    if len(os.fsencode(name)) > _LONGEST:  # room for the suffixes
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return os.path.join(folder, f".{name}.bladescan-journal")


class Unfinished(NamedTuple):
    """What an earlier run left: its settings, the number of entries, the time of the last; or damage."""

    described: str = ""
    n: int = 0
    last: str = ""
    damage: str = ""


class Journal(EntryFile):
    """The journal of one output, and its lock.

    Args:
        output: the file that the verdicts go to.
        settings: of this scan.
        resume: continue with what is there; else it is discarded.

    Attributes:
        found: number of entries of an earlier run that this one continues.
        notice: one line on what was found, or empty.

    Raises:
        OutputError: another scan writes this output, or the journal cannot be written.
    """

    def __init__(self, output: str, settings: VerdictSettings, *, resume: bool) -> None:
        path = journal_path(output)
        self._lock = _lock(path, output)
        try:
            left = _look(path) if os.path.exists(path) else None
            usable = resume and left is not None and left.described == settings.described
            self.notice = _notice(left, output, settings, resume)
            self.found = left.n if left is not None and usable else 0
            if not usable:
                _remove(path)
            super().__init__(path, KIND)
            self.begin_run(settings)
        except BaseException:
            self._lock.release()
            raise
        self._empty = not self.found

    def put(self, entry: LedgerEntry, *, at_once: bool = True) -> None:
        """Keep an entry, as `EntryFile.put` does."""
        self._empty = False
        super().put(entry, at_once=at_once)

    def close(self) -> None:
        """Close the journal and keep it for ``--resume``; remove an empty one."""
        with suppress(BladescanError):
            self.flush()
        super().close()
        if self._empty:
            _remove(self.path)
        self._lock.release()

    def remove(self) -> None:
        """Remove the journal of a complete output."""
        self._empty = True
        super().close()
        _remove(self.path)
        self._lock.release()


def _lock(path: str, output: str) -> FileLock:
    try:
        return FileLock(path.removesuffix("-journal") + "-lock")
    except LockHeldError as exc:
        raise OutputError(f"cannot write {output}: another scan is writing it ({exc})") from exc
    except OSError as exc:
        raise OutputError(f"cannot write {output}: {exc.strerror}") from exc


def _look(path: str) -> Unfinished:
    """Look into a journal. If any of it cannot be read, none of it is used, and the scan starts again."""
    try:
        with closing(connect(path)) as db:
            check_kind(db, path, KIND)
            if not db.execute("PRAGMA user_version").fetchone()[0]:  # killed while it was made
                return Unfinished()
            if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("database disk image is malformed")
            described = db.execute("SELECT described FROM settings ORDER BY id DESC LIMIT 1").fetchone()
            n, last = db.execute("SELECT count(*), max(scanned_at) FROM entry").fetchone()
            settings = described[0] if described else "{}"
            json.loads(settings)
            return Unfinished(settings, n, datetime.fromtimestamp(last or 0, UTC).isoformat())
    except (sqlite3.Error, UsageError, ValueError, TypeError, OverflowError, OSError) as exc:
        return Unfinished(damage=str(exc))


def _notice(left: Unfinished | None, output: str, settings: VerdictSettings, resume: bool) -> str:
    if left is None or not (left.n or left.damage):
        return ""
    if left.damage:
        return f"an unfinished scan into {output} cannot be read ({left.damage}): starting over"
    run = f"an unfinished scan into {output} ({counted(left.n, 'image')}, until {left.last})"
    differences = ", ".join(settings.differences(left.described))
    if differences:
        return f"{run} was made with other settings ({differences}): starting over"
    return f"continuing {run}" if resume else f"{run} is discarded; --resume would have continued it"


def _remove(path: str) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with suppress(OSError):
            os.unlink(path + suffix)
