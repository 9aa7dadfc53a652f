"""Which of several boxes are of one and the same thing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def suppress(corners: NDArray[np.floating[Any]], overlap: float, *, of_smaller: bool = False) -> list[int]:
    """Greedy non-maximum suppression over boxes ``[n, 4]``, best first; indices of those that stay.

    Args:
        corners: (x0, y0, x1, y1) of each box.
        overlap: a box goes when the share it has in common with a better one is above this.
        of_smaller: the share of the smaller box instead of the union.
    """
    areas = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    kept: list[int] = []
    left = np.arange(len(corners))
    while left.size:
        best, rest = left[0], left[1:]
        kept.append(int(best))
        low = np.maximum(corners[best, :2], corners[rest, :2])
        high = np.minimum(corners[best, 2:], corners[rest, 2:])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        smaller = np.minimum(areas[best], areas[rest])
        whole = smaller if of_smaller else areas[best] + areas[rest] - common
        left = rest[common <= overlap * whole]
    return kept
