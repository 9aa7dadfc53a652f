"""What was scanned, by which detector and with which verdict, for years and millions of sources.

One scan at a time writes a ledger, and says so with a lock beside it; anybody may read it meanwhile.
"""

from __future__ import annotations

import os
from contextlib import suppress

from bladescan.entries import COLUMNS, EntryFile, Kind, transaction
from bladescan.errors import BladescanError, OutputError, UsageError
from bladescan.journal import Journal
from bladescan.locks import FileLock, LockHeldError

KIND = Kind(0x626C644C, "ledger")


class Ledger(EntryFile):
    """A ledger and its lock.

    Raises:
        UsageError: the file is something else, or another process writes it.
        OutputError: it cannot be written.
    """

    def __init__(self, path: str) -> None:
        if os.path.isdir(path):
            raise UsageError(f"ledger {path}: is a folder; give a file name in it")
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
        with self.mapped():
            self.db.execute("ATTACH DATABASE ? AS journal", (os.fsencode(journal.path),))
            with transaction(self.db):
                self.db.execute(
                    f"INSERT OR REPLACE INTO entry ({COLUMNS}, settings, run) "
                    f"SELECT {COLUMNS}, ?, ? FROM journal.entry WHERE run = ?",
                    (self.settings, self.run, journal.run),
                )
            self.db.execute("DETACH DATABASE journal")

    def close(self) -> None:
        """Close the file and let others write it."""
        with suppress(BladescanError):
            self.flush()
        super().close()
        self._lock.release()


def _lock(path: str) -> FileLock:
    try:
        return FileLock(os.path.realpath(path) + ".lock")
    except LockHeldError as exc:
        raise UsageError(f"ledger {path}: another bladescan is writing it ({exc})") from exc
    except OSError as exc:
        raise OutputError(f"ledger {path}: {exc.strerror}") from exc
