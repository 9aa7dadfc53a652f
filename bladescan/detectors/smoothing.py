r"""P-values without steps: a conformal p-value is one of n + 1 numbers, and many faces share each.

Between two held-out scores the smooth p-value is a straight line in the score, from the p-value at one to
the p-value at the next; so it is nowhere below the conformal one. Beyond the most suspicious held-out
photograph it falls from 2 / (n + 1) towards 1 / (n + 1), the least that n photographs can show, and never
reaches it:

.. math:: p = \frac{1 + e^{-(s - h_1) / \sigma}}{n + 1}

with the mean excess of the most suspicious held-out photographs for sigma, as of an exponential tail. The
tail orders faces; its shape is a guess, but no promise hangs on it: whatever it is, p >= conformal p, hence
P(p <= rate) <= rate for a photograph exchangeable with the held-out ones, at every rate.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bladescan.detectors.calibration import p_value_steps
from bladescan.detectors.manifest import CalibratedHead, HeadName
from bladescan.detectors.suspicion import suspicion


def smooth_p_values(head: CalibratedHead, name: HeadName, scores: ArrayLike) -> NDArray[np.float64]:
    """Compute p-values that fall steadily as the score rises.

    Args:
        head: its calibration and ``n_held_out``.
        name: of the head.
        scores: of suspicion (`bladescan.detectors.suspicion`), of any shape.

    Returns:
        Of the same shape, above the lowest p-value, up to 1; never below the conformal one.
    """
    asked = np.asarray(scores, np.float64)
    held = suspicion(head.calibration, name)[::-1]  # ascending
    # The conformal p-value from one stored score to the next is that at the first, the larger of the two:
    # where the line starts. Of equal scores the first counts, which has the largest.
    steps = p_value_steps(head)[::-1]
    held, first = np.unique(held, return_index=True)
    at, least = steps[first], steps[-1]
    between = np.interp(asked, held, at, left=1.0)
    beyond = np.maximum(asked - held[-1], 0.0)
    tail = least + (at[-1] - least) * np.exp(-beyond / _scale(held))
    return np.where(beyond > 0.0, tail, between)


def _scale(held: NDArray[np.float64]) -> float:
    """Fit the exponential tail: mean excess of the most suspicious sqrt(n) over the one after them."""
    k = min(max(1, round(math.sqrt(len(held)))), len(held) - 1)
    excess = float((held[-k:] - held[-k - 1]).mean()) if k else 0.0
    return excess if excess > 0.0 else 1.0
