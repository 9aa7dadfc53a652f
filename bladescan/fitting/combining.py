"""Scores of photographs to a calibrated combination, and what is said of it. It runs no detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError
from bladescan.detectors.combination import calibrate_together, check_reachable, check_rule, combined_scores
from bladescan.detectors.dependence import SURE, dependences
from bladescan.detectors.manifest import CalibratedHead, Combination, Component, HeadName, NetworkHead


class Combined(NamedTuple):
    """A calibrated combination.

    Attributes:
        combination: with the calibrations of its components.
        head: the calibration of the head ``combined``.
        scores: photographic scores of the head ``combined`` of the photographs, ``[n]``.
        report: plain JSON values; ``notices`` are lines for the user.
    """

    combination: Combination
    head: CalibratedHead
    scores: NDArray[np.float64]
    report: dict[str, Any]


def combine_heads(
    rule: str,
    heads: dict[HeadName, CalibratedHead],
    scores: Mapping[HeadName, NDArray[np.float64]],
    rate: float,
) -> Combined:
    """Combine the heads of one detector, and add the head ``combined`` to them.

    Args:
        rule: a key of `bladescan.detectors.combination.RULES`.
        heads: of the detector; changed.
        scores: photographic scores of the same held-out photographs, by head.
        rate: of false alarms that the combined head must be able to show.
    """
    both: tuple[NetworkHead, ...] = ("one-class", "binary")
    components = [Component(head, head, heads[head]) for head in both]
    table = np.stack([scores[head] for head in both], 1)
    found = calibrated(Combination(check_rule(rule), tuple(components)), table, rate)
    heads["combined"] = found.head
    return found


def calibrated(combination: Combination, scores: NDArray[np.float64], rate: float) -> Combined:
    """Calibrate a combination on photographs that all of its components scored.

    Args:
        combination: its components' calibrations are replaced.
        scores: photographic scores of the components, ``[n, k]``.
        rate: of false alarms that the head must be able to show.

    Raises:
        DataError: a component gives all photographs the same score.
        UsageError: there are too few photographs for the rate.
    """
    for component, column in zip(combination.components, scores.T, strict=True):
        if len(column) and not np.ptp(column) > 0.0:
            raise DataError(f"{component.name} gives all photographs the same score: it says nothing")
    components, head = calibrate_together(combination.rule, combination.components, scores)
    made = msgspec.structs.replace(combination, components=components, seen_together=True)
    check_reachable(made, head, rate)
    return Combined(made, head, combined_scores(made, scores), _report(made, scores))


def _report(combination: Combination, scores: NDArray[np.float64]) -> dict[str, Any]:
    names = [component.name for component in combination.components]
    pairs = dependences(scores)
    shown = {
        f"{names[pair.first]} and {names[pair.second]}": {
            "rank_correlation": round(pair.rank_correlation, 3),
            "independence_p": float(f"{pair.p_value:.3g}"),
        }
        for pair in pairs
    }
    told = [
        f"{names[pair.first]} and {names[pair.second]} depend on each other on photographs (rank correlation "
        f"{pair.rank_correlation:.2f}): what they say together was calibrated on the photographs themselves"
        for pair in pairs
        if pair.p_value < SURE
    ]
    return {"rule": combination.rule, "components": names, "dependence": shown, "notices": told}
