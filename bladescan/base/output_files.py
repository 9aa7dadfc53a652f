"""Where the bytes of an output go: standard output, a device, or a file that appears only when complete.

A file appears under its name when all of it is on the disk; until then the old one stays. Unfinished files of
killed processes are removed by the next process that writes into the same folder.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from bladescan.base.errors import OutputError, UsageError
from bladescan.base.locks import is_still_at, try_lock

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/+.")  # pathlib makes one slash of two
UNFINISHED = re.compile(r"\.bladescan-[0-9a-f]{16}\.tmp")


class Output(Protocol):
    """Takes the bytes of one output. Foreign errors become OutputError, except BrokenPipeError."""

    def write(self, data: bytes) -> None:
        """Write bytes."""

    def commit(self) -> None:
        """Make the output durable and visible."""

    def keep_partial(self) -> str | None:
        """Make an incomplete output visible, but never in place of a complete file.

        Returns:
            The name of the file, None if the bytes are already out.
        """

    def discard(self) -> None:
        """Throw the output away, as far as that is possible. Never raises."""


@contextmanager
def _mapped(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise OutputError(f"cannot write {name}: {why}") from exc


class OutputStream:
    """Standard output, a pipe or a device: bytes go out at once and cannot be taken back."""

    def __init__(self, stream: BinaryIO, name: str, *, close: bool = False) -> None:
        self._stream, self._name, self._close = stream, name, close

    def write(self, data: bytes) -> None:
        """Write bytes and flush them."""
        if data:
            with _mapped(self._name):
                self._stream.write(data)
                self._stream.flush()

    def commit(self) -> None:
        """Flush, and close what was opened here."""
        with _mapped(self._name):
            self._stream.flush()
            if self._close:
                self._stream.close()

    def keep_partial(self) -> str | None:
        """Flush: the bytes are out already."""
        self.commit()
        return None

    def discard(self) -> None:
        """Close what was opened here; what was written stays."""
        if self._close:
            with suppress(OSError):
                self._stream.close()


class AtomicFile:
    """A file written under another name and renamed when complete; a link's target is replaced."""

    def __init__(self, path: str) -> None:
        self._name = path
        self._path = os.path.realpath(path)
        self._folder = os.path.dirname(self._path)
        with _mapped(path):
            mode = _old_mode(self._path)
            _remove_unfinished(self._folder)
            descriptor, self._temporary = _new_file(self._folder)
            self._file = os.fdopen(descriptor, "wb")
            if mode is not None:
                os.fchmod(descriptor, mode)

    def write(self, data: bytes) -> None:
        """Write bytes to the unfinished file."""
        with _mapped(self._name):
            self._file.write(data)

    def commit(self) -> None:
        """Put the finished file in its place."""
        self._publish(self._path)

    def keep_partial(self) -> str | None:
        """Put the unfinished file beside its place, under `partial_name`."""
        shown = self._path if os.path.islink(self._name) else self._name
        self._publish(partial_name(self._path))
        return partial_name(shown)

    def discard(self) -> None:
        """Remove the unfinished file."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            os.unlink(self._temporary)

    def _publish(self, path: str) -> None:
        with _mapped(self._name):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._temporary, path)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _new_file(folder: str) -> tuple[int, str]:
    """Make a new file, locked while this process has it open; return its descriptor and its path."""
    while True:
        path = os.path.join(folder, f".bladescan-{os.urandom(8).hex()}.tmp")
        # os.open and not tempfile: the kernel applies the umask, as for any new file.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with suppress(OSError):  # a file system without locks, where nothing is removed either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if is_still_at(descriptor, path):
            return descriptor, path
        os.close(descriptor)  # another process removed it before it was locked


def _remove_unfinished(folder: str) -> None:
    """Remove what killed processes left: the unfinished files that no process has locked."""
    with suppress(OSError), os.scandir(folder) as entries:
        left = [entry.path for entry in entries if UNFINISHED.fullmatch(entry.name)]
        for path in left:
            with suppress(OSError):
                _remove_if_unlocked(path)


def _remove_if_unlocked(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if try_lock(descriptor):
            os.unlink(path)
    finally:
        os.close(descriptor)


def partial_name(path: str) -> str:
    """Name the file that keeps an interrupted output: ``v.partial.csv`` for ``v.csv``."""
    stem, suffix = os.path.splitext(path)
    return f"{stem}.partial{suffix}"


def _old_mode(path: str) -> int | None:
    """Read the permissions of the file to be replaced; a file that may not be written may not be replaced."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if not os.access(path, os.W_OK):
        raise PermissionError(0, "permission denied")
    return stat.S_IMODE(mode)


def is_special(path: str) -> bool:
    """Tell whether a path names a device, a pipe or a socket, which is written to and not replaced."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def open_output(path: str) -> Output:
    """Open the output at a path: a file to be replaced when complete, or a device or pipe to write to.

    Raises:
        OutputError: it cannot be written.
    """
    if _URL.match(path):
        raise OutputError(f"cannot write {path}: only the verdicts of a scan can go to a bucket; give a file")
    if is_special(path):
        with _mapped(path):
            return OutputStream(open(path, "wb"), path, close=True)
    if os.path.isdir(path):
        raise OutputError(f"cannot write {path}: it is a folder; give a file name in it")
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise OutputError(f"cannot write {path}: there is no folder {folder}; make it first")
    return AtomicFile(path)


def check_output(path: Path, suffix: str) -> None:
    """Check now that an output can be written, rather than after an hour of work.

    Raises:
        UsageError: another suffix, a folder, or a name in a folder that is not there.
    """
    if _URL.match(str(path)):
        raise UsageError(f"--output {path}: is no file on this machine; give one, and copy it to the bucket")
    if path.suffix.lower() != suffix:
        raise UsageError(f"--output {path}: expected a name that ends in {suffix}")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise UsageError(f"--output {path}: is a folder; give the name of a file")


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file, or none of it: if that fails, an old file stays as it was.

    Raises:
        OutputError: it cannot be written.
    """
    output = open_output(str(path))
    try:
        output.write(data)
        output.commit()
    except BaseException:
        output.discard()
        raise
