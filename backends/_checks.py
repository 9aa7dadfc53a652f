"""Checks that the built-in backends share. Not a backend."""

from __future__ import annotations

import numpy as np

from bladescan.errors import BackendError
from bladescan.records import Scores


def check_finite(scores: Scores, name: str) -> Scores:
    """Return the scores, or raise BackendError if one is not a finite number.

    A score that is not a number would compare as photographic in every verdict.
    """
    for values in scores:
        if values is not None and not np.isfinite(values).all():
            raise BackendError(f"the {name} backend gave scores that are not finite; use --precision fp32")
    return scores
