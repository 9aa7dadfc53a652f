"""One thing to scan, by its name. It is neither opened nor fetched here.

Names are ``str`` with undecodable bytes as surrogate escapes (`os.fsdecode`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bladescan.base.errors import ImageError
from bladescan.base.records import ImageRecord, Reason


class Stamp(NamedTuple):
    """Size and time (or ETag): tells a changed source from an unchanged one without reading it.

    Attributes:
        size: in bytes.
        mark: an object's ETag, or the time of a file's last change in nanoseconds.
    """

    size: int
    mark: str


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to scan.

    Attributes:
        name: as the user would type it.
        problem: why it cannot be scanned, if listing already shows that.
        stamp: if the listing gives one.
        may_be_other: found below a folder, with a name that is no picture's: content that is none either
            makes it an *other file*, which is counted and has no row.
        known: its record from an earlier scan, if it need not be read.
    """

    name: str
    problem: ImageError | None = None
    stamp: Stamp | None = None
    known: ImageRecord | None = None
    may_be_other: bool = False

    def is_other_file(self, reason: Reason | None) -> bool:
        """Tell whether it is no picture by its name, and by why its content cannot be read."""
        return self.may_be_other and reason in _NO_PICTURE


_NO_PICTURE = (Reason.NOT_AN_IMAGE, Reason.EMPTY)
