"""Files below folders that are no pictures: told from unreadable pictures, counted, and left out of the rows.

A name that is no picture's makes a source doubtful (`Source.may_be_other`); the decoder, which has the bytes,
decides. Until they are counted their records go the way of all others, so that nothing loses its order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from bladescan.base.records import ImageRecord
from bladescan.sources.source import Source


class OtherFiles:
    """Marks the records of one scan: sources pass on their way in, their records on their way out."""

    def __init__(self) -> None:
        self._sources: deque[Source] = deque()

    def listed(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Yield the same sources. For the thread that lists."""
        for source in sources:
            self._sources.append(source)
            yield source

    def marked(self, records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
        """Yield the same records, in the order of their sources; those of other files are marked."""
        for record in records:
            is_other = self._sources.popleft().is_other_file(record.reason)
            yield replace(record, is_other=True) if is_other else record


def without_others(
    records: Iterable[ImageRecord], count: Callable[[ImageRecord], None]
) -> Iterator[ImageRecord]:
    """Leave out what is marked, and have it counted."""
    for record in records:
        if record.is_other:
            count(record)
        else:
            yield record
