r"""The score that verdicts are read by: higher is more AI-generated, without bounds and without ties.

A head's photographic score (`bladescan.detectors.calibration`) is turned round: the one-class head's is
minus the log-likelihood, the binary head's the log-odds of P(AI-generated),

.. math:: \log \frac{P}{1 - P}

whose digits still tell faces apart where P is 0.999999 for all of them. 0 is P = 0.5. What is combined is in
standard deviations of the normal distribution that photographs would have if its parts were independent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bladescan.detectors.calibration import false_alarm_threshold
from bladescan.detectors.manifest import CalibratedHead, HeadName

_LEAST, _MOST = np.finfo(np.float64).tiny, 1.0 - np.finfo(np.float64).epsneg
"""P beyond these cannot be told from 0 and 1."""


def suspicion(photographic: ArrayLike, head: HeadName) -> NDArray[np.float64]:
    """Turn photographic scores of any shape into scores that are higher for what is more AI-generated.

    Args:
        photographic: log-likelihoods, -P(AI-generated), or minus combined statistics.
        head: the one that gave them.
    """
    given = np.asarray(photographic, np.float64)
    if head != "binary":
        return -given
    p = np.clip(-given, _LEAST, _MOST)
    odds: NDArray[np.float64] = np.log(p) - np.log1p(-p)
    return odds


def suspicion_threshold(head: CalibratedHead, name: HeadName, rate: float) -> float:
    """Compute the score above which a face is called AI-generated at a false-alarm rate.

    Args:
        head: its calibration.
        name: of the head.
        rate: accepted share of photographs that are called AI-generated, in (0, 1).

    Raises:
        UsageError: as `false_alarm_threshold`.
    """
    return float(suspicion(false_alarm_threshold(head, rate), name))
