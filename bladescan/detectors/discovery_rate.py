"""Flagging a batch by its false-discovery rate: p-values in, the p-value that decides out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bladescan.base.errors import UsageError
from bladescan.detectors.calibration import check_rate, held_out_told, lowest_p_value, needed_photographs
from bladescan.detectors.manifest import CalibratedHead


def benjamini_hochberg(p_values: ArrayLike, q: float) -> float:
    """Compute the p-value at or below which images are flagged at false-discovery rate ``q``.

    Args:
        p_values: of the batch, ``[m]``; m may be 0.
        q: accepted share of photographs among the flagged, in (0, 1).

    Returns:
        The largest p at rank i with p <= i q / m, or 0.0 (below every p-value) if there is none.

    Raises:
        UsageError: ``q`` is out of range.

    References:
        Benjamini and Hochberg, J. R. Stat. Soc. B 57 (1995), 289-300.
    """
    check_rate(q, "false-discovery rate")
    ordered = np.sort(np.asarray(p_values, np.float64))
    below = np.flatnonzero(ordered <= q * np.arange(1, len(ordered) + 1) / max(len(ordered), 1))
    return float(ordered[below[-1]]) if len(below) else 0.0


def storey_share(p_values: ArrayLike) -> float:
    r"""Estimate the share of photographs in a batch: AI-generated faces have few p-values above a half.

    .. math:: \hat\pi_0 = \min\left(1, \frac{1 + \#\{p > 1/2\}}{m / 2}\right)

    Args:
        p_values: of the batch, ``[m]``; m may be 0.

    Returns:
        In (0, 1]. Benjamini-Hochberg at ``q / share`` keeps the rate ``q``.

    References:
        Storey, Taylor and Siegmund, J. R. Stat. Soc. B 66 (2004), 187-205.
    """
    found = np.asarray(p_values, np.float64)
    return min(1.0, (1.0 + float((found > 0.5).sum())) / (max(len(found), 1) / 2.0))


def least_flagged_share(head: CalibratedHead, q: float, least: float | None = None) -> float:
    r"""Compute the share of a batch below which a false-discovery rate can flag nothing.

    The least p-value is 1 / (n + 1), so with k faces of m at that value, Benjamini and Hochberg flag them
    only if

    .. math:: \frac{1}{n + 1} \le \frac{k q}{m} \iff \frac{k}{m} \ge \frac{1}{(n + 1) q}

    Args:
        head: whose lowest p-value is 1 / (n + 1): n photographs, or folders of them.
        q: accepted share of photographs among the flagged, in (0, 1).
        least: p-value, where it is not 1 / (n + 1).

    Returns:
        The least k / m.

    Raises:
        UsageError: ``q`` is out of range, or so small that even a batch of AI-generated faces alone could
            not be flagged.
    """
    check_rate(q, "false-discovery rate")
    least = lowest_p_value(head) if least is None else least
    share = least / q
    if share > 1.0:
        unit = " folders" if head.by == "folder" else ""
        raise UsageError(
            f"a false-discovery rate of {q:g} can flag nothing with {held_out_told(head)}: give at least "
            f"{least:.2g}, or calibrate on {needed_photographs(q)}{unit} or more"
        )
    return share
