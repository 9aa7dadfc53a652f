r"""Which parts of a face its score rests on: windows of its crop are covered, each cell's part is solved for.

The crop is a grid of 7 x 7 cells. A window of 3 x 3 cells around each cell, cut at the border, is blurred
until no feature is left, and the covered crop is scored like any other: no gradient, so any backend will do.
With the windows' cells as rows of M and the falls of the score f, the map a solves

.. math:: (M^T M + \lambda I) \, a = M^T f

which is the ridge estimate of what each cell adds if they add up. docs/explain.md compares it with others.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bladescan.base.records import CROP_SIZE

GRID = 7
"""Cells along a side of the crop."""
REACH = 1
"""Cells of a window on each side of its middle."""
N_COPIES = GRID * GRID
"""Covered copies of a crop, each one run of the detector."""
_RIDGE = 1.0
_BLUR = 24.0
"""Standard deviation in pixels."""
_CELL = CROP_SIZE // GRID


def covered_copies(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make the covered copies of one crop.

    Args:
        crop: uint8 ``[224, 224, 3]``.

    Returns:
        uint8 ``[N_COPIES, 224, 224, 3]``: the window around each cell is covered, cells row by row.
    """
    return cover(crop, blurred(crop), windows())


def blurred(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blur a crop until neither features nor texture are left: the colours of the neighbourhood stay."""
    return np.asarray(Image.fromarray(crop).filter(ImageFilter.GaussianBlur(_BLUR)))


def cover(crop: NDArray[np.uint8], fill: NDArray[np.uint8], covered: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Put a fill in place of some cells.

    Args:
        crop: uint8 ``[224, 224, 3]``.
        fill: a colour ``[3]``, or a picture like the crop.
        covered: bool ``[n, GRID, GRID]``.

    Returns:
        uint8 ``[n, 224, 224, 3]``.
    """
    pixels = covered.repeat(_CELL, 1).repeat(_CELL, 2)[..., None]
    copies: NDArray[np.uint8] = np.where(pixels, fill, crop)
    return copies


@cache
def windows() -> NDArray[np.bool_]:
    """List the cells of the window around each cell, bool ``[N_COPIES, GRID, GRID]``."""
    apart = np.abs(np.arange(GRID)[:, None] - np.arange(GRID)) <= REACH
    near: NDArray[np.bool_] = apart[:, None, :, None] & apart[None, :, None, :]
    return near.reshape(N_COPIES, GRID, GRID)


def whole_windows() -> NDArray[np.intp]:
    """List the windows that no border cuts, ``[(GRID - 2 REACH)^2]``, by their number in `windows`."""
    middle = np.arange(N_COPIES).reshape(GRID, GRID)[REACH:-REACH, REACH:-REACH]
    return middle.reshape(-1)


def cell_map(falls: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve for what each cell adds to the score.

    Args:
        falls: of the score when each window is covered, ``[N_COPIES]``, in the order of `windows`.

    Returns:
        float64 ``[GRID, GRID]``, in the unit of the score.
    """
    # Not a product of matrices, whose last bits depend on the library behind it.
    found: NDArray[np.float64] = (_solver() * falls).sum(1).reshape(GRID, GRID)
    return found


def strongest_window(cells: NDArray[np.float64]) -> int:
    """Find the whole window whose cells add most, by its number in `windows`; of equals the first."""
    whole = whole_windows()
    sums = [float(cells[windows()[number]].sum()) for number in whole]
    return int(whole[int(np.argmax(sums))])


@cache
def _solver() -> NDArray[np.float64]:
    cells = windows().reshape(N_COPIES, N_COPIES).astype(np.float64)
    return np.asarray(np.linalg.solve(cells.T @ cells + _RIDGE * np.eye(N_COPIES), cells.T), np.float64)
