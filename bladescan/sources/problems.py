"""Why a name cannot be scanned, where looking at it already shows that."""

from __future__ import annotations

import errno
import os
import stat

from bladescan.base.errors import ImageError
from bladescan.base.records import Reason

_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def special_file(mode: int) -> ImageError | None:
    """Return the problem with a pipe, a socket or a device; None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    kind = _SPECIAL.get(stat.S_IFMT(mode), "something else")
    return ImageError(Reason.NOT_A_FILE, f"{kind}, not a file or folder")


def problem_of(exc: OSError | ValueError, path: str, *, vanished: bool = False) -> ImageError:
    """Turn the error of looking at a path into the reason for its row.

    Args:
        exc: what the system, or Python, said.
        path: that was looked at.
        vanished: whether a missing file was there a moment ago.
    """
    if isinstance(exc, ValueError):
        return ImageError(Reason.NOT_FOUND, "a name with a NUL in it; lists with NULs need -0")
    if isinstance(exc, PermissionError):
        return ImageError(Reason.PERMISSION_DENIED, message_of(exc))
    if exc.errno == errno.ELOOP:
        return ImageError(Reason.NOT_A_FILE, "a symbolic link that leads back to itself")
    if exc.errno in (errno.ENOENT, errno.ENOTDIR):
        if os.path.islink(path):
            return ImageError(Reason.NOT_FOUND, "a symbolic link to nothing")
        return ImageError(Reason.VANISHED if vanished else Reason.NOT_FOUND, message_of(exc))
    return ImageError(
        Reason.NOT_FOUND if exc.errno == errno.ENAMETOOLONG else Reason.READ_ERROR, message_of(exc)
    )


def message_of(exc: OSError | ValueError) -> str:
    """Return what the system says, without the error number and the path."""
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
