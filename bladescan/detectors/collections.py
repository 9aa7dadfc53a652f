r"""Calibration by collection: a false-alarm rate for photographs of a folder that was not there.

Photographs of one source are more alike than those of two, so a rank among all photographs says nothing of
the next source. Here folders are what is exchangeable, and photographs within each. With K folders, the
:math:`n_k` photographs of each and their scores :math:`h_{ki}` (lower is more suspicious),

``folder``:

.. math:: p(s) = \frac{1}{K + 1} \Bigl(1 + \sum_k \frac{\#\{i : h_{ki} \le s\}}{n_k}\Bigr)

Every folder weighs the same, and one more, that of the new photograph, counts as more suspicious than all.
Then P(p <= rate) <= rate for a photograph of a new folder, over the draw of folders and photographs, whatever
the distributions and the sizes. No p-value is below 1 / (K + 1).

``strictest-folder``:

.. math:: p(s) = \max_k \frac{1 + \#\{i : h_{ki} \le s\}}{n_k + 1}

The threshold for a rate is the strictest of those that the folders set alone. A new folder's own would be
stricter with a probability of at most 1 / (K + 1), as it would have to be the strictest of K + 1.

References:
    Lee, Foygel Barber and Willett, Distribution-free inference with hierarchical data, 2023, arXiv:2306.06342
    (hierarchical conformal prediction); Dunn, Wasserman and Ramdas, Distribution-free prediction sets for
    two-layer hierarchical models, JASA 118 (2023), 2491-2502 (the second is half of their double conformal
    method).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError, UnknownNameError
from bladescan.base.text import counted
from bladescan.detectors.calibration import (
    MAX_STORED,
    check_rate,
    compress_calibration,
    false_alarm_interval,
    needed_photographs,
    stored_ranks,
)
from bladescan.detectors.manifest import CalibratedHead, CalibrationUnit

UNITS: tuple[CalibrationUnit, ...] = ("file", "folder", "strictest-folder")
"""The values of ``--by``."""


class Collections(NamedTuple):
    """The folders that calibrate.

    Attributes:
        names: ``[K]``.
        of: ``[n]``, index of each photograph's folder; -1 for one of a folder that is left out.
        left_out: folders with too few photographs for the rate.
    """

    names: tuple[str, ...]
    of: NDArray[np.intp]
    left_out: tuple[str, ...] = ()

    @property
    def sizes(self) -> NDArray[np.intp]:
        """Photographs in each, ``[K]``."""
        return np.bincount(self.of[self.of >= 0], minlength=len(self.names))

    def told(self) -> dict[str, Any]:
        """Say what they are, as plain JSON values."""
        sizes = self.sizes
        small, large = int(sizes.argmin()), int(sizes.argmax())
        return {
            "n_folders": len(self.names),
            "smallest_folder": f"{self.names[small]} ({counted(int(sizes[small]), 'face')})",
            "largest_folder": f"{self.names[large]} ({counted(int(sizes[large]), 'face')})",
        }


def check_unit(by: str) -> CalibrationUnit:
    """Return a value of ``--by``, or raise UnknownNameError."""
    for unit in UNITS:
        if by == unit:
            return unit
    raise UnknownNameError("unit of calibration", by, UNITS)


def collection_names(folders: Sequence[str]) -> list[str]:
    """Name the collection of each photograph: a folder side by side with others, with all that lies in it.

    It is the first folder below the deepest one that holds all photographs. What lies in that one itself is a
    collection as well.

    Args:
        folders: ``[n]``, of each photograph, with ``/`` between its parts.

    Returns:
        ``[n]``.
    """
    parts = [folder.split("/") for folder in folders]
    if not parts:
        return []
    first, last = min(parts), max(parts)
    shared = next((i for i, part in enumerate(first) if last[i : i + 1] != [part]), len(first))
    own = "/".join(first[:shared][-1:]) or "."
    return [path[shared] if len(path) > shared else own for path in parts]


def find_collections(by: CalibrationUnit, names: Sequence[str], rate: float) -> Collections:
    """Find the folders that can calibrate for a rate.

    Args:
        by: ``folder`` or ``strictest-folder``.
        names: ``[n]``, the collection of each photograph.
        rate: of false alarms that a detector must be able to show.

    Raises:
        DataError: there are too few folders, or too few photographs in each.
        UsageError: the rate is out of range.
    """
    check_rate(rate, "false-alarm rate")
    labels, of, counts = np.unique(np.asarray(names, np.str_), return_inverse=True, return_counts=True)
    needed = needed_photographs(rate)
    if by == "folder":
        if len(labels) < needed:
            # One folder alone promises nothing: neither a higher rate nor the other unit helps.
            lowest = np.ceil(1e4 / (len(labels) + 1)) / 1e4
            others = f"ask for {lowest:g} or more, or use --by strictest-folder"
            raise DataError(
                f"{counted(len(labels), 'folder')}: a false-alarm rate of {rate:g} for folders that are not "
                f"there needs at least {needed}; give more folders, side by side"
                f", or {others if len(labels) > 1 else 'leave out --by'}"
            )
        return Collections(tuple(labels.tolist()), of)
    large = counts >= needed
    if large.sum() < 2:
        raise DataError(
            f"{int(large.sum())} of {counted(len(labels), 'folder')} with {needed} faces or more, "
            f"which a false-alarm rate of {rate:g} needs of each: at least 2 are needed, side by side"
        )
    places = np.where(large, np.cumsum(large) - 1, -1)
    return Collections(tuple(labels[large].tolist()), places[of], tuple(labels[~large].tolist()))


def promised(by: CalibrationUnit, collections: Collections | None, n: int, rate: float) -> dict[str, Any]:
    """Say over what a rate holds, as JSON values; an interval only where all photographs count alike."""
    if collections is None:
        return {"false_alarm_interval_95": list(false_alarm_interval(n, rate))}
    return {"by": by, **collections.told()}


def left_out_told(collections: Collections | None, rate: float) -> list[str]:
    """Say which folders set no threshold, in a line for the user; none if all do."""
    names = () if collections is None else collections.left_out
    if not names:
        return []
    few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    needed = needed_photographs(rate)
    return [f"{counted(len(names), 'folder')} with fewer than {needed} faces set no threshold ({few})"]


def calibrate_by(
    by: CalibrationUnit,
    scores: NDArray[np.float64],
    collections: Collections | None = None,
    like: CalibratedHead | None = None,
    max_stored: int = MAX_STORED,
) -> CalibratedHead:
    """Calibrate a head.

    Args:
        by: over what its rates are to hold.
        scores: photographic scores of held-out photographs, ``[n]``, finite.
        collections: of the photographs; None by file.
        like: a head whose settings are kept.
        max_stored: see `compress_calibration`.
    """
    settings = {} if like is None else like.settings
    paper = None if like is None else like.paper_threshold
    if by == "file" or collections is None:
        return CalibratedHead(compress_calibration(scores, max_stored), len(scores), settings, paper)
    used = collections.of >= 0
    scores, of = scores[used], collections.of[used]
    n, order = len(scores), np.argsort(scores, kind="stable")
    ranks = stored_ranks(n, min(n, max_stored))
    p_of_count = _p_values_by_count(by, of[order], collections.sizes)
    # Between two stored scores the count is rounded up, as `p_values` does.
    steps = np.append(p_of_count[ranks - 1], 1.0)
    stored = compress_calibration(scores, max_stored)
    n_folders = len(collections.names)
    return CalibratedHead(stored, n, settings, paper, by, n_folders, tuple(steps.tolist()))


def _p_values_by_count(
    by: CalibrationUnit, of: NDArray[np.intp], sizes: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Compute the p-value of a score with the c lowest at or below it, for c from 0 to n - 1.

    Args:
        by: ``folder`` or ``strictest-folder``.
        of: folder of each photograph, ascending by score, ``[n]``.
        sizes: of the folders, ``[K]``.
    """
    if by == "folder":
        passed = np.concatenate([[0.0], np.cumsum(1.0 / sizes[of])])[:-1]
        # Twelve digits: a sum of shares that is a whole number is one.
        return np.round((1.0 + passed) / (len(sizes) + 1.0), 12)
    ranks = np.empty(len(of))  # of each photograph in its folder, from 1
    for folder in range(len(sizes)):
        ranks[of == folder] = np.arange(1, sizes[folder] + 1)
    of_each = (1.0 + ranks) / (sizes[of] + 1.0)
    return np.maximum.accumulate(np.append((1.0 / (sizes + 1.0)).max(), of_each))[:-1]
