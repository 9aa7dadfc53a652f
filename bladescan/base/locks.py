"""Locks that end with their process, whatever ends it: `flock` on a file made for the lock.

A SQLite file is never locked so: on some network file systems that would clash with SQLite's own locks.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from bladescan.base import clock


class LockHeldError(Exception):
    """Another process has the lock; the text says which, and since when. Callers map it."""


def try_lock(descriptor: int) -> bool:
    """Lock an open file, unless another process has locked it.

    Returns:
        Whether it is locked now by this process.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_still_at(descriptor: int, path: str) -> bool:
    """Tell whether a path still names this open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


class FileLock:
    """A lock file, held from when it is made until `release` removes it.

    Raises:
        LockHeldError: another process holds it.
        OSError: it cannot be made.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        while not self._acquire():
            pass

    def release(self) -> None:
        """Release the lock. Releasing twice is fine."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.unlink(self._path)  # before the unlock: who waits sees that the name is gone
            os.close(self._descriptor)
            self._descriptor = -1

    def _acquire(self) -> bool:
        holder = f"process {os.getpid()}, since {clock.now().isoformat()}"  # may raise: before opening
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._lock(descriptor)
            if not is_still_at(descriptor, self._path):  # its last holder has just removed it
                os.close(descriptor)
                return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        with suppress(OSError):  # on a full disk the lock holds, but does not say whose it is
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)
        return True

    @staticmethod
    def _lock(descriptor: int) -> None:
        try:
            held = not try_lock(descriptor)
        except OSError:  # a file system without locks: go on unlocked
            return
        if held:
            raise LockHeldError(os.pread(descriptor, 200, 0).decode(errors="replace"))
