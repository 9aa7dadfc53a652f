"""Intervals of measured shares: Wilson's, and those of files drawn anew.

What is drawn again is the *file*, with all its faces, for faces of one file are no independent evidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bladescan.evaluation.report import Interval

_Z95 = 1.959963984540054
_LARGEST_BLOCK = 2_000_000
"""Most numbers of one block of draws: it bounds the memory."""


def bootstrap_interval(draws: NDArray[np.float64]) -> Interval:
    """Make an interval of ``[1 + n_draws]`` values: the first, and the central 95% of the others."""
    low, high = np.percentile(draws[1:], [2.5, 97.5])
    return Interval(float(draws[0]), float(low), float(high))


def wilson_interval(count: int, n: int) -> Interval | None:
    """Compute a share and its 95% Wilson score interval; None of nothing."""
    if n == 0:
        return None
    share, z2 = count / n, _Z95**2
    centre = (count + z2 / 2) / (n + z2)
    reach = _Z95 / (n + z2) * math.sqrt(n * share * (1 - share) + z2 / 4)
    return Interval(share, max(0.0, min(centre - reach, share)), min(1.0, max(centre + reach, share)))


def redraw_files(
    files: Mapping[str, NDArray[Any]], n_draws: int, seed: int
) -> Iterator[dict[str, NDArray[np.float64]]]:
    """Draw the files of every set anew, with replacement, in blocks of draws.

    Yields:
        By set, how often each face counts, ``[draws, n_faces]``; in the first block, of one row, once.
    """
    yield {name: np.ones((1, len(named))) for name, named in files.items()}
    codes = {name: np.unique(named, return_inverse=True)[1] for name, named in files.items()}
    rngs = dict(zip(files, np.random.default_rng(seed).spawn(len(files)), strict=True))
    block = max(1, _LARGEST_BLOCK // sum(len(code) for code in codes.values()))
    for start in range(0, n_draws, block):
        n = min(block, n_draws - start)
        yield {name: _redrawn(code, n, rngs[name]) for name, code in codes.items()}


def _redrawn(code: NDArray[np.intp], n_draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    n_files = int(code.max()) + 1
    times = rng.multinomial(n_files, np.full(n_files, 1 / n_files), size=n_draws)
    return times[:, code].astype(np.float64)
