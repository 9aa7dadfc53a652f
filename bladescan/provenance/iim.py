"""IPTC-IIM records out of Photoshop's image resources. It knows the few data sets that name a tool.

References:
    IPTC-NAA Information Interchange Model 4.2, record 2; Adobe Photoshop file formats, image resources.
"""

from __future__ import annotations

from collections.abc import Iterator

from bladescan.provenance.blocks import as_text
from bladescan.provenance.budget import BrokenMetadata, Budget

_IPTC_RESOURCE = 0x0404
NAMES = {65: "OriginatingProgram", 110: "Credit", 120: "Caption"}
"""Data sets of record 2 that are read."""


def records_in(resources: bytes, budget: Budget) -> Iterator[bytes]:
    """Yield the IPTC-IIM records among Photoshop's image resources.

    Raises:
        BrokenMetadata: a resource reaches past the end.
    """
    at = 0
    while resources[at : at + 4] == b"8BIM":
        budget.count_block()
        number = int.from_bytes(resources[at + 4 : at + 6], "big")
        at += (
            6 + (resources[at + 6 : at + 7] or b"\0")[0] // 2 * 2 + 2
        )  # the name, of even length with its own
        size = int.from_bytes(resources[at : at + 4], "big")
        if at + 4 + size > len(resources):
            raise BrokenMetadata("IPTC: an image resource reaches past the end")
        if number == _IPTC_RESOURCE:
            yield resources[at + 4 : at + 4 + size]
        at += 4 + size + size % 2


def read_iim(record: bytes, budget: Budget) -> Iterator[tuple[str, str]]:
    """Yield name and text of the data sets in `NAMES`.

    Raises:
        BrokenMetadata: a data set reaches past the end.
    """
    at = 0
    while record[at : at + 1] == b"\x1c" and at + 5 <= len(record):
        budget.count_block()
        number, data_set = record[at + 1], record[at + 2]
        size = int.from_bytes(record[at + 3 : at + 5], "big")
        if size >= 0x8000 or at + 5 + size > len(record):
            raise BrokenMetadata("IPTC: a data set reaches past the end")
        if number == 2 and data_set in NAMES:
            yield NAMES[data_set], as_text(record[at + 5 : at + 5 + size])
        at += 5 + size
