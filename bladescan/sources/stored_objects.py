"""Objects of any store: what a listing says about one, and whether its bytes are allowed and complete."""

from __future__ import annotations

from typing import Any, NamedTuple

from bladescan.base.errors import ImageError, first_line
from bladescan.base.records import Reason
from bladescan.sources.retries import TransientError

PART_BYTES = 1 << 18
"""An object is read in parts of about this many bytes."""


class TooLargeError(ImageError):
    """An object larger than the limit.

    Args:
        size: of the object in bytes, as far as it is known.
        max_bytes: the limit.
    """

    def __init__(self, size: int, max_bytes: int) -> None:
        super().__init__(Reason.TOO_MANY_BYTES, f"{size} bytes or more; the limit is {max_bytes}")
        self.size, self.max_bytes = size, max_bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.size, self.max_bytes))


class StoredObject(NamedTuple):
    """One listed object.

    Attributes:
        key: as the store spells it.
        size: in bytes.
        mark: its ETag, or the time of its last change if it has none.
    """

    key: str
    size: int
    mark: str


def check_size(size: int, max_bytes: int) -> None:
    """Raise TooLargeError for an object larger than the limit."""
    if size > max_bytes:
        raise TooLargeError(size, max_bytes)


def check_whole(n_bytes: int, size: int, mark: str | None, listed: StoredObject | None) -> None:
    """Raise TransientError unless as many bytes came as the answer, or the object's listing, promised.

    Args:
        n_bytes: that came.
        size: that the answer promised.
        mark: of the answer, None if it has none.
        listed: the object in a listing, None if it was not listed.
    """
    if n_bytes != size:
        raise TransientError(f"the answer ends after {n_bytes} of {size} bytes")
    if listed is not None and mark in (None, listed.mark) and size != listed.size:
        raise TransientError(f"{size} bytes came, {listed.size} were listed")


def archived_problem(code: str) -> ImageError | None:
    """Make the problem of an object that its store keeps where nobody can read it; None for other codes."""
    if code not in ("InvalidObjectState", "BlobArchived", "BlobBeingRehydrated"):
        return None
    return ImageError(Reason.READ_ERROR, f"archived: restore it before it is scanned ({code})")


def missing_reason(listed: StoredObject | None) -> Reason:
    """Name the reason for a missing object: one that was listed has vanished since."""
    return Reason.NOT_FOUND if listed is None else Reason.VANISHED


def brief(exc: Exception) -> str:
    """Say what a library says of an object or a bucket, shortened to fit into a line."""
    return first_line(exc)[:300]
