"""The order of images in an output: as they were listed, or the most suspicious first.

Memory: some 30 bytes for each image, whose rows wait in a private temporary file; with ``top``, that many
records and nothing else.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator

from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.base.records import ImageRecord, Verdict
from bladescan.outputs.spool import keeps_finished, open_spool

SORTS = ("auto", "listed", "score")
GROUPS = {
    verdict: place
    for place, verdict in enumerate(
        (Verdict.AI_GENERATED, Verdict.UNSURE, Verdict.NOT_FLAGGED, Verdict.UNREADABLE, Verdict.NO_FACE)
    )
}
"""Flagged images come first, also those that only their file declares; then the unsure. What nobody could
look at comes before what has no face."""


class Ordering:
    """Puts records in order.

    Args:
        sort: ``score``, ``listed``, or ``auto``: by score where that is asked for by ``top``, or where a
            person reads the table.
        top: most images to hand on; None for all.
        for_people: the output is a table on a terminal.
        mixed: rows come from two detectors, whose scores cannot be compared: their p-values are.

    Attributes:
        sorts: whether records wait for the last one.
        n_below_top: images that were not handed on.

    Raises:
        UnknownNameError: unknown ``sort``.
        UsageError: ``top`` without an order.
    """

    def __init__(
        self, sort: str = "auto", top: int | None = None, *, for_people: bool = False, mixed: bool = False
    ) -> None:
        if sort not in SORTS:
            raise UnknownNameError("order", sort, SORTS)
        if top is not None and sort == "listed":
            raise UsageError("--top N keeps the most suspicious images: it excludes --sort listed")
        if top is not None and top < 1:
            raise UsageError(f"--top must be at least 1, got {top}")
        self.sorts = sort == "score" or top is not None or (sort == "auto" and for_people)
        self.n_below_top = 0
        self._top, self._mixed = top, mixed

    def ordered(self, records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
        """Yield records in order. Those of a scan that is broken off come out before its exception."""
        if not self.sorts:
            return iter(records)
        return self._sorted(records) if self._top is None else self._highest(records, self._top)

    def _sorted(self, records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
        groups, scores, places = array("b"), array("d"), array("q")
        with open_spool("--sort score") as spool:
            try:
                for record in records:
                    group, score = _key(record, self._mixed)
                    groups.append(group)
                    scores.append(score)
                    places.append(spool.write(record))
            except BaseException as exc:
                if keeps_finished(exc):
                    yield from spool.at(_in_order(groups, scores, places))
                raise
            yield from spool.at(_in_order(groups, scores, places))

    def _highest(self, records: Iterable[ImageRecord], top: int) -> Iterator[ImageRecord]:
        # The worst of the best stands first. Of equals the later one is worse; no two have the same index.
        heap: list[tuple[int, float, int, ImageRecord]] = []
        try:
            for index, record in enumerate(records):
                group, score = _key(record, self._mixed)
                entry = (-group, -score, -index, record)
                if len(heap) < top:
                    heapq.heappush(heap, entry)
                else:
                    heapq.heappushpop(heap, entry)
                    self.n_below_top += 1
        except BaseException as exc:
            if keeps_finished(exc):
                yield from (entry[-1] for entry in sorted(heap, reverse=True))
            raise
        yield from (entry[-1] for entry in sorted(heap, reverse=True))


def _key(record: ImageRecord, mixed: bool) -> tuple[int, float]:
    """Of two records the one with the lower key comes first: its group, then minus its highest score."""
    if mixed:
        return GROUPS[record.verdict], min((face.p_smooth for face in record.faces), default=float("inf"))
    return GROUPS[record.verdict], -max((face.score for face in record.faces), default=float("-inf"))


def _in_order(groups: array[int], scores: array[float], places: array[int]) -> Iterable[int]:
    import numpy as np

    order = np.lexsort((np.frombuffer(scores), np.frombuffer(groups, np.int8)))  # stable: then as listed
    return (places[index] for index in order)
