"""Flagging by a false-discovery rate: rows are held back until all faces are scored, then judged again."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from bladescan.base.records import ImageRecord
from bladescan.detectors.discovery_rate import benjamini_hochberg
from bladescan.outputs.spool import keeps_finished, open_spool
from bladescan.scanning.judging import Judge


def flag_by_discovery_rate(
    records: Iterable[ImageRecord], rate: float, judge: Judge, decided: Callable[[float | None], None]
) -> Iterator[ImageRecord]:
    """Hold all records back in a private temporary file until the batch's threshold is known.

    When the scan is broken off there is no batch to judge: what was finished comes out as the detector's own
    false-alarm rate decided it.

    Args:
        records: judged at some rate.
        rate: accepted share of photographs among the flagged faces.
        judge: who judged them; at another rate it judges them again.
        decided: called with the score that decides, None where none is high enough.
    """
    p_values = array("d")
    with open_spool("--fdr") as spool:
        try:
            for record in records:
                p_values.extend(face.p_value for face in record.faces)
                spool.write(record)
        except BaseException as exc:
            if keeps_finished(exc):
                decided(judge.threshold())
                yield from spool.read()
            raise
        judge = replace(judge, rate=benjamini_hochberg(p_values, rate))
        decided(judge.threshold())
        yield from (judge.again(record) for record in spool.read())
