"""Locks that die with their process, whatever ends it: `flock` on a file of its own.

Never on a SQLite file: on some network file systems SQLite's own locks would be in its way.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from bladescan.base import clock


class LockHeldError(Exception):
    """Another process has the lock; the text says which, and since when. Never leaves this package's edge."""


def try_lock(descriptor: int) -> bool:
    """Lock an open file, unless another process has locked it.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_still_at(descriptor: int, path: str) -> bool:
    """Whether an open file is what its path names."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


class FileLock:
    """A lock file, held from its making to `release`, which removes it.

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
        """Let others have it. Releasing twice is fine."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.unlink(self._path)  # before the lock goes: whoever waits sees that the name is gone
            os.close(self._descriptor)
            self._descriptor = -1

    def _acquire(self) -> bool:
        holder = f"process {os.getpid()}, since {clock.now().isoformat()}"  # first: it may raise
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._lock(descriptor)
            if not is_still_at(descriptor, self._path):  # its last holder removed it in this moment
                os.close(descriptor)
                return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        with suppress(OSError):  # a full disk: the lock holds, only nobody can read whose it is
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)
        return True

    @staticmethod
    def _lock(descriptor: int) -> None:
        try:
            held = not try_lock(descriptor)
        except OSError:  # a file system without locks: better unlocked than not at all
            return
        if held:
            raise LockHeldError(os.pread(descriptor, 200, 0).decode(errors="replace"))
