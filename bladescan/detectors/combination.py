r"""P-values of several scores to one: Stouffer's sum or the least of them. NumPy only; it runs no detector.

With p-values :math:`p_i` of k scores, and :math:`\Phi` the normal distribution, the statistic is

.. math:: z = \frac{1}{\sqrt k} \sum_i \Phi^{-1}(1 - p_i), \qquad
          z = \Phi^{-1}\bigl((1 - \min_i p_i)^k\bigr)

by the rules ``stouffer`` and ``min``. Were the scores of photographs independent, z would be standard normal:
the second is the exact null of a minimum. They seldom are independent, so no verdict uses that. The head
``combined`` has a calibration of z instead:

- **Seen together**: the same n photographs were scored by all components, and z of each is known. Photograph
  i enters with :math:`p_i = r_i / (n + 1)`, where r is its rank. Together with a new photograph its rank
  would be r or r + 1, so what is stored is never less suspicious than what would be exchangeable with the new
  one. Hence the combined conformal p-value is valid, :math:`P(p \le \alpha) \le \alpha`, though the
  photographs calibrate the components as well.
- **Not seen together**: the calibration is the largest probability that any dependence allows, see
  `bound`. It finds less.

References:
    Stouffer et al., The American Soldier I (1949); Tippett, The Methods of Statistics (1931); RealStats
    (AISTATS 2026) combines p-values of detectors by photographs alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DetectorError, UnknownNameError, UsageError
from bladescan.detectors.calibration import check_calibration, compress_calibration, lowest_p_value, p_values
from bladescan.detectors.manifest import (
    CalibratedHead,
    Combination,
    CombinationRule,
    Component,
    Manifest,
)
from bladescan.detectors.smoothing import smooth_p_values
from bladescan.detectors.suspicion import suspicion

_NORMAL = NormalDist()
_MOST = 1.0 - np.finfo(np.float64).epsneg
_TIE = 1.0 / 64.0
"""Share of the way from a conformal p-value to the smooth one: faces that share a step stay in order."""
_BOUND_TIE, _HAIR = 1e-7, 1e-6
"""The same where a bound decides: its quantiles lie a hair, which is more, beyond their own statistic, so
that a face there has their p-value in spite of it."""
MOST_COMPONENTS = 16


def stouffer(p: Sequence[float]) -> float:
    """Compute Stouffer's statistic of p-values in (0, 1): standard normal if they are independent."""
    return sum(-_NORMAL.inv_cdf(one) for one in p) / math.sqrt(len(p))


def least(p: Sequence[float]) -> float:
    """Compute the normal quantile of the least of p-values in (0, 1) by its exact null under independence."""
    return -_NORMAL.inv_cdf(min(-math.expm1(len(p) * math.log1p(-min(p))), _MOST))


RULES: dict[CombinationRule, Callable[[Sequence[float]], float]] = {"stouffer": stouffer, "min": least}
"""The statistics by the values of ``--combine``."""


def check_rule(rule: str) -> CombinationRule:
    """Return a rule's name, or raise UnknownNameError."""
    for name in RULES:
        if rule == name:
            return name
    raise UnknownNameError("rule of combination", rule, RULES)


def component_p_values(
    component: Component, scores: NDArray[np.float64], tie: float = _TIE
) -> NDArray[np.float64]:
    """Compute the p-values that are combined, of photographic scores ``[n]``; in (0, 1), float64 ``[n]``.

    They lie between the conformal p-value and the smooth one, close to the first, so that the combined
    statistic is never more suspicious than conformal p-values make it, and has no ties.
    """
    head = component.calibration
    steps = p_values(head, scores)
    smooth = smooth_p_values(head, component.head, suspicion(scores, component.head))
    return np.minimum(steps + tie * (smooth - steps), 1.0 - 0.5 / (head.n_held_out + 1.0))


def combined_scores(combination: Combination, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the photographic score of the head ``combined``: minus the statistic.

    Args:
        combination: rule and components.
        scores: photographic scores of the components, ``[n, k]``.

    Returns:
        float64 ``[n]``.
    """
    tie = _TIE if combination.seen_together else _BOUND_TIE
    p = [component_p_values(one, scores[:, i], tie) for i, one in enumerate(combination.components)]
    return _photographic(combination.rule, np.stack(p, 1))


def calibrate_together(
    rule: CombinationRule, components: Sequence[Component], scores: NDArray[np.float64]
) -> tuple[tuple[Component, ...], CalibratedHead]:
    """Calibrate components and their combination on photographs that all of them scored.

    Args:
        rule: of the combination.
        components: their calibrations are replaced.
        scores: photographic scores ``[n, k]`` of n photographs, finite.

    Returns:
        The components with their new calibrations, and the head ``combined``.
    """
    n = len(scores)
    made = []
    for component, column in zip(components, scores.T, strict=True):
        old = component.calibration
        head = CalibratedHead(compress_calibration(column), n, old.settings, old.paper_threshold)
        made.append(Component(component.name, component.head, head, component.part))
    ranks = np.stack([np.searchsorted(np.sort(column), column, side="right") for column in scores.T], 1)
    held_out = _photographic(rule, ranks / (n + 1.0))
    return tuple(made), CalibratedHead(compress_calibration(held_out), n, {"rule": rule})


def bound(rule: CombinationRule, components: Sequence[Component]) -> CalibratedHead:
    r"""Make a calibration that is valid however the components depend on each other on photographs.

    By the rule ``min``, :math:`p = k \min_i p_i` (Bonferroni). By ``stouffer``, with the mean
    :math:`\bar z` of the k normal quantiles, p is the least alpha for which :math:`\bar z` reaches

    .. math:: \min\left(\Phi^{-1}(1 - \alpha / k), \frac{\varphi(\Phi^{-1}(1 - \alpha))}{\alpha}\right):

    if the mean is that high, one of the k is; and the mean of the worst share alpha of any variable whose
    parts are normal is at most the mean of their own worst shares.

    It has as many quantiles as the combined p-value can have steps; they take the place of photographs.

    References:
        Embrechts, Wang and Wang, Finance and Stochastics 19 (2015), 763-790; Vovk and Wang, Biometrika 107
        (2020), 791-808.
    """
    k = len(components)
    most = RULES[rule]([lowest_p_value(one.calibration) for one in components])
    if rule == "min":
        most = least([min(lowest_p_value(one.calibration) for one in components)] * k)
    n = _steps(rule, k, most)
    if n < 1:
        raise DetectorError("the detectors' calibrations hold too few photographs to be combined")
    levels = [_reached_at(rule, k, i / (n + 1.0)) for i in range(1, n + 1)]
    return CalibratedHead(compress_calibration(_HAIR - np.asarray(levels)), n, {"rule": rule})


def _steps(rule: CombinationRule, k: int, most: float) -> int:
    """Count the steps above the least p-value: the most n for which the first quantile can be reached."""
    low, high = 0, 1 << 24
    while low < high:
        middle = (low + high + 1) // 2
        reached = _reached_at(rule, k, 1.0 / (middle + 1.0)) <= most + _HAIR
        low, high = (middle, high) if reached else (low, middle - 1)
    return low


def _reached_at(rule: CombinationRule, k: int, alpha: float) -> float:
    """Find the statistic that no dependence lets photographs reach more often than alpha."""
    if rule == "min":
        return least([alpha / k] * k)
    normal = -_NORMAL.inv_cdf(alpha)
    return math.sqrt(k) * min(-_NORMAL.inv_cdf(alpha / k), _NORMAL.pdf(normal) / alpha)


def least_p_value(combination: Combination, head: CalibratedHead) -> float:
    """Compute the combined p-value of a face that every component finds beyond all of its photographs.

    It may be above 1 / (n + 1): by the rule ``min`` the most suspicious photograph of each component is
    as suspicious as any face can be.
    """
    if not combination.seen_together:
        return lowest_p_value(head)
    beyond = [lowest_p_value(one.calibration) for one in combination.components]
    return float(p_values(head, -RULES[combination.rule](beyond)))


def check_reachable(combination: Combination, head: CalibratedHead, rate: float) -> None:
    """Raise UsageError if no face can have a combined p-value as small as a rate."""
    least = least_p_value(combination, head)
    if least > rate:
        n, k = head.n_folders or head.n_held_out, len(combination.components)
        raise UsageError(
            f"a false-alarm rate of {rate:g} cannot be had of {k} scores combined by {combination.rule!r} "
            f"on {n} {'folders' if head.n_folders else 'photographs'}: ask for {least:.2g} or more, or "
            f"calibrate on about {math.ceil(n * least / rate)}"
        )


def check_combination(manifest: Manifest, n_parts: int, *, where: str) -> None:
    """Raise DetectorError unless what a manifest says of its combination can be computed.

    Args:
        manifest: that has a combination.
        n_parts: detectors that give its scores.
        where: the file's name.
    """
    combination = manifest.combination
    if combination is None or "combined" not in manifest.heads:
        raise DetectorError(f"{where}: a combination needs the head 'combined', and that head a combination")
    if not 2 <= len(combination.components) <= MOST_COMPONENTS:
        raise DetectorError(f"{where}: {len(combination.components)} scores cannot be combined, 2 to 16 can")
    for component in combination.components:
        check_calibration(component.calibration, where=f"{where}: {component.name!r}")
        if not 0 <= component.part < n_parts:
            raise DetectorError(f"{where}: {component.name!r} is of a detector that there is not")
    if len({component.name for component in combination.components}) < len(combination.components):
        raise DetectorError(f"{where}: two of the combined scores have one name")
    check_calibration(manifest.heads["combined"], where=f"{where}: head 'combined'")


def _photographic(rule: CombinationRule, p: NDArray[np.float64]) -> NDArray[np.float64]:
    # Number by number, so that a row has the same bits whatever its batch.
    return np.asarray([-RULES[rule](row) for row in p.tolist()], np.float64)
