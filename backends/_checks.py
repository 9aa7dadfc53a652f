"""Checks that the built-in backends share: of installations and of scores. It is no backend."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import numpy as np

from bladescan.base.errors import BackendError
from bladescan.base.records import Scores


def check_finite(scores: Scores, name: str) -> Scores:
    """Return the scores, or raise BackendError if one is not a finite number.

    A score that is not a number would count as photographic in every verdict.
    """
    for values in scores:
        if values is not None and not np.isfinite(values).all():
            raise BackendError(f"the {name} backend gave scores that are not finite; use --precision fp32")
    return scores


def installed(*packages: str) -> str | None:
    """Return the version of the first of some packages that is installed, None if none is."""
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None
