"""The scores of the photographs that set the threshold, as a histogram to draw behind a face's score."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bladescan.detectors.calibration import stored_ranks
from bladescan.detectors.manifest import CalibratedHead, HeadName, Manifest
from bladescan.detectors.suspicion import suspicion

N_BINS = 32
_MARGIN = 0.08


class ScoreCurve(NamedTuple):
    """A histogram over the range of scores that the page draws.

    Attributes:
        low, high: ends of the range; a score beyond them is drawn at the end.
        heights: of the bins, the highest 1.
        n_photographs: held out, that the histogram stands for.
        head: whose scores they are.
    """

    low: float
    high: float
    heights: tuple[float, ...]
    n_photographs: int
    head: str


def score_curve(manifest: Manifest, head: str, highest: float | None) -> ScoreCurve | None:
    """Draw the held-out photographs of a head; None if the detector has no such head.

    Args:
        manifest: of the detector that made the verdicts.
        head: the one that decided.
        highest: of the faces' scores, so that the range reaches there; None without a face.
    """
    name: HeadName
    for name, calibrated in manifest.heads.items():
        if name == head:
            return _drawn(calibrated, name, highest)
    return None


def _drawn(head: CalibratedHead, name: HeadName, highest: float | None) -> ScoreCurve:
    scores = suspicion(head.calibration, name)[::-1]  # ascending
    # A stored score stands for the ranks up to it.
    ranks = stored_ranks(head.n_held_out, len(scores))
    weights = np.diff(ranks, prepend=0)[::-1]
    low, high = float(scores[0]), float(scores[-1])
    if highest is not None:
        # One face far out must not press the photographs into a line.
        high = max(high, min(highest, high + 1.5 * (high - low)))
    margin = _MARGIN * ((high - low) or 1.0)
    low, high = low - margin, high + margin
    counts, _ = np.histogram(scores, N_BINS, (low, high), weights=weights)
    heights = counts / max(counts.max(), 1)
    return ScoreCurve(low, high, tuple(round(float(h), 4) for h in heights), head.n_held_out, name)
