"""The bytes of an image file on a disk. They are not decoded here."""

from __future__ import annotations

import errno
import os
import stat

from bladescan.base.errors import ImageError
from bladescan.base.records import Reason
from bladescan.images.formats import is_known, names_picture
from bladescan.images.limits import Limits, check_bytes, check_not_empty


def read_file(path: str, limits: Limits, *, listed: bool = False) -> bytes:
    """Read the whole of a regular file, never more than ``limits.max_bytes``, without blocking on a FIFO.

    Args:
        path: its name; bytes that are not UTF-8 as surrogate escapes.
        limits: ``max_bytes`` is used.
        listed: whether the name came from a listing, so that a missing file has *vanished*.

    Raises:
        ImageError: not-found, vanished, permission-denied, not-a-file, too-many-bytes, empty or read-error;
            not-an-image where a file is too large, and neither its name nor its first bytes are a picture's.
    """
    try:
        # Look before opening: opening a device may already have an effect.
        _check_regular(os.stat(path))
    except (OSError, ValueError) as exc:
        raise _os_error(exc, missing=Reason.VANISHED if listed else Reason.NOT_FOUND) from exc
    try:
        return _read_regular(path, limits.max_bytes)
    except OSError as exc:
        raise _os_error(exc, missing=Reason.VANISHED) from exc


def _read_regular(path: str, max_bytes: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(fd, "rb", buffering=0) as file:
        status = os.fstat(fd)
        _check_regular(status)  # the name may lead elsewhere by now
        if status.st_size > max_bytes and not names_picture(path) and not is_known(os.pread(fd, 512, 0)):
            raise ImageError(Reason.NOT_AN_IMAGE, f"{status.st_size} bytes of no known image format")
        check_bytes(status.st_size, max_bytes)
        chunks, size = [], 0
        # The size is a hint only: files grow, and those of /proc say 0.
        while chunk := file.read(max(status.st_size - size, 65536)):
            chunks.append(chunk)
            size += len(chunk)
            check_bytes(size, max_bytes)
    data = b"".join(chunks)
    check_not_empty(data)
    return data


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
    }
    kind = kinds.get(stat.S_IFMT(status.st_mode), "something else")
    raise ImageError(Reason.NOT_A_FILE, f"expected a regular file, found {kind}")


def _os_error(exc: OSError | ValueError, *, missing: Reason) -> ImageError:
    if not isinstance(exc, OSError):  # a NUL, or a surrogate that stands for no byte
        return ImageError(missing, f"no file can have this name: {exc}")
    reasons = {
        errno.ENOENT: missing,
        errno.ENOTDIR: missing,
        errno.ENAMETOOLONG: missing,
        errno.ESTALE: Reason.VANISHED,
        errno.EACCES: Reason.PERMISSION_DENIED,
        errno.EPERM: Reason.PERMISSION_DENIED,
        errno.EISDIR: Reason.NOT_A_FILE,
        errno.ENXIO: Reason.NOT_A_FILE,
    }
    return ImageError(reasons.get(exc.errno or 0, Reason.READ_ERROR), exc.strerror or type(exc).__name__)
