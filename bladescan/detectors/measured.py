"""False-alarm rates as they are: measured on photographs that the calibration does not know.

A calibration promises its rate for photographs like its own. How far others are off can only be measured;
what was measured stands in the manifest (`MeasuredRate`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError
from bladescan.detectors.calibration import needed_photographs, p_values
from bladescan.detectors.collections import calibrate_by, find_collections
from bladescan.detectors.manifest import (
    CalibratedHead,
    CalibrationUnit,
    HeadName,
    Manifest,
    MeasuredRate,
)

LEAST_FACES = 20
"""Of a set; the share among fewer says nothing."""


def rates_by_source(
    head: HeadName,
    scores: NDArray[np.float64],
    sources: Sequence[str],
    rate: float,
    by: CalibrationUnit = "file",
) -> tuple[MeasuredRate, ...]:
    """Measure what a calibration on all other sources flags of each source.

    Args:
        head: whose scores they are.
        scores: photographic scores ``[n]`` of photographs that the head did not learn from.
        sources: ``[n]``, where each photograph comes from, for example its folder.
        rate: of false alarms that is asked for.
        by: over what that calibration holds.

    Returns:
        A rate for each source of at least `LEAST_FACES` faces, as long as the others are enough for the rate.
    """
    found = []
    labels = np.asarray(sources)
    for source in np.unique(labels):
        inside = labels == source
        calibration = _of_others(scores[~inside], labels[~inside].tolist(), rate, by)
        if inside.sum() < LEAST_FACES or calibration is None:
            continue
        flagged = float((p_values(calibration, scores[inside]) <= rate).mean())
        found.append(MeasuredRate(head, str(source), int(inside.sum()), rate, flagged))
    return tuple(found)


def _of_others(
    scores: NDArray[np.float64], sources: Sequence[str], rate: float, by: CalibrationUnit
) -> CalibratedHead | None:
    """Calibrate on some sources; None if they are too few for the rate."""
    if by == "file":
        return calibrate_by(by, scores) if len(scores) >= needed_photographs(rate) else None
    try:
        return calibrate_by(by, scores, find_collections(by, sources, rate))
    except DataError:
        return None


def rates_of(manifest: Manifest, head: str) -> list[MeasuredRate]:
    """List what was measured with a head, the highest rate first."""
    rates = [rate for rate in manifest.measured if rate.head == head]
    return sorted(rates, key=lambda rate: -rate.flagged)


def told(rates: Sequence[MeasuredRate]) -> str:
    """Say what was measured in a line; empty if nothing was.

    Args:
        rates: of one head, the highest first.
    """
    if not rates:
        return ""
    most, least = rates[0], rates[-1]
    between = f"{least.flagged:.0%} to {most.flagged:.0%}" if len(rates) > 1 else f"{most.flagged:.0%}"
    return (
        f"asked for {100 * most.false_alarm:g}%, {between} was measured on photographs unlike those of the "
        f"calibration (most: {most.photographs}, {most.n_faces} faces)"
    )
