"""Flagging by a false-discovery rate: rows are held back until all faces are scored, then judged again."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from bladescan.base.records import ImageRecord
from bladescan.detectors.discovery_rate import benjamini_hochberg, least_flagged_share, storey_share
from bladescan.outputs.spool import keeps_finished, open_spool
from bladescan.scanning.judging import Judge


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a batch came to.

    Attributes:
        judge: at the rate that decides the batch.
        share: of photographs in it, as estimated; 1 without an estimate.
        notice: a line on a batch of which nothing could be flagged, else empty.
    """

    judge: Judge
    share: float = 1.0
    notice: str = ""


def flag_by_discovery_rate(
    records: Iterable[ImageRecord],
    rate: float,
    judge: Judge,
    decided: Callable[[Discovered], None],
    *,
    storey: bool = False,
) -> Iterator[ImageRecord]:
    """Hold all records back in a private temporary file until the batch's threshold is known.

    When the scan is broken off there is no batch to judge: what was finished comes out as the detector's own
    false-alarm rate decided it.

    Args:
        records: judged at some rate.
        rate: accepted share of photographs among the flagged faces.
        judge: who judged them; at another rate it judges them again.
        decided: called before the first record is handed on.
        storey: estimate the share of photographs in the batch, instead of taking every face for one.
    """
    p_values = array("d")
    with open_spool("--fdr") as spool:
        try:
            for record in records:
                p_values.extend(face.p_value for face in record.faces)
                spool.write(record)
        except BaseException as exc:
            if keeps_finished(exc):
                decided(Discovered(judge))
                yield from map(judge.again, spool.read())
            raise
        found = _discovered(np.frombuffer(p_values), rate, judge, storey)
        decided(found)
        yield from (found.judge.again(record) for record in spool.read())


def _discovered(p_values: np.ndarray, rate: float, judge: Judge, storey: bool) -> Discovered:
    share = storey_share(p_values) if storey else 1.0
    # A rate of 1 or more would flag everything, and mean nothing.
    found = benjamini_hochberg(p_values, min(rate / share, math.nextafter(1.0, 0.0)))
    judge = replace(judge, rate=found)
    if found > 0.0 or not len(p_values):
        return Discovered(judge, share)
    least = judge.least_p_value
    n_least = int((p_values <= least).sum())
    needed = math.ceil(least_flagged_share(judge.calibration, rate, least) * share * len(p_values) - 1e-9)
    notice = (
        f"--fdr {rate:g} flagged none of {len(p_values)} faces: {n_least} score beyond every held-out "
        f"photograph, and {needed} would have to; --false-alarm, or a calibration on more photographs, can "
        "single out few"
    )
    return Discovered(judge, share, notice)
