"""Verdicts that outlast their run: what is kept of a source, and when it may be used again.

An entry is used in place of reading a source if the source's stamp (size, and time or ETag) is the same and
the scan's settings are the same. How entries are stored is `entry_file`'s matter.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import msgspec

from bladescan.base.provenance_record import Provenance
from bladescan.base.records import ImageRecord, Reason
from bladescan.sources.addresses import is_url
from bladescan.sources.source import Source, Stamp

PASSING_REASONS = frozenset(
    (Reason.TIMEOUT, Reason.READ_ERROR, Reason.PERMISSION_DENIED, Reason.VANISHED, Reason.NOT_FOUND)
    + (Reason.DECODER_CRASHED,)
)
"""Reasons that may be gone the next time."""
OTHER = "other"
"""In place of the verdict where an entry is of a file that is no picture: remembered, and never shown."""
_SAYS_NOTHING = asdict(Provenance())
_CREDENTIALS = re.compile(r"(?<=://)[^/?#]*@")


class LedgerEntry(NamedTuple):
    """What is kept of a source.

    Attributes:
        key: names it, see `key_of`.
        stamp: when it was scanned.
        record: what the scan said.
    """

    key: bytes
    stamp: Stamp
    record: ImageRecord


class VerdictSettings(NamedTuple):
    """Everything that decides what a record says. Entries made with other settings are not used.

    Attributes:
        digest: SHA-256 of the description.
        described: names and values as JSON, keys sorted.
    """

    digest: str
    described: str

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> VerdictSettings:
        """Make them from names and plain values."""
        described = json.dumps(fields, sort_keys=True)
        return cls(hashlib.sha256(described.encode()).hexdigest(), described)

    def differences(self, other: str) -> list[str]:
        """Name the fields in which another description differs."""
        ours, theirs = json.loads(self.described), json.loads(other)
        return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def key_of(name: str) -> bytes:
    """Name a source independently of the working folder: by its URL, or the bytes of its absolute path."""
    if is_url(name):
        return os.fsencode(_CREDENTIALS.sub("", name))
    # After a link, .. does not mean what the text says. No path has a NUL, so such a name is not resolved.
    if ".." in name.split("/") and "\0" not in name:
        name = os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))
    return os.fsencode(os.path.abspath(name))


def stamp_of(source: Source) -> Stamp | None:
    """Take a source's stamp from its listing, or a file's from the file system; None if there is none."""
    if source.stamp is not None or source.problem is not None or is_url(source.name):
        return source.stamp
    try:
        status = os.stat(source.name)
    except (OSError, ValueError):
        return None
    return None if _may_change_unseen(status.st_mtime_ns) else Stamp(status.st_size, str(status.st_mtime_ns))


def _may_change_unseen(mtime_ns: int) -> bool:
    """Whether a file is so fresh that one more change could leave it with the same time."""
    tick_s = 2.0 if mtime_ns % 1_000_000_000 == 0 else 0.02  # FAT's, and the slowest of kernels
    return abs(time.time() - mtime_ns / 1e9) < tick_s


def is_lasting(record: ImageRecord) -> bool:
    """Tell whether a second look at an unchanged source would say the same."""
    return record.reason not in PASSING_REASONS


def encode(record: ImageRecord) -> str:
    """Encode a record as ASCII JSON, without its name, cost and kind of source, which belong to one scan."""
    fields = asdict(record)
    del fields["source"], fields["cost"], fields["is_other"]
    for face in fields["faces"]:  # what reviewers decide is kept apart, and may change
        del face["decision"], face["decided_at"]
    if (said := fields["provenance"]) is not None:  # most files say nothing: that takes no room
        fields["provenance"] = {name: value for name, value in said.items() if value != _SAYS_NOTHING[name]}
    return json.dumps(fields, separators=(",", ":"))


def decode(text: str, name: str) -> ImageRecord | None:
    """Decode a record and give it a name; None if the text is no record."""
    try:
        return msgspec.convert({"source": name, **json.loads(text)}, ImageRecord)
    except (ValueError, TypeError, msgspec.MsgspecError):
        return None
