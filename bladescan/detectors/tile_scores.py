r"""How the scores of a picture's tiles become the score of the picture.

Each head is joined in the unit that verdicts are read by (`bladescan.detectors.suspicion`): minus the
log-likelihood, or the log-odds of P(AI-generated). ``mean`` is their mean over the tiles; ``top`` the mean
over the most suspicious quarter of them, rounded up. A picture of one tile keeps its score, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bladescan.base.records import Scores
from bladescan.detectors.manifest import TileJoin
from bladescan.detectors.suspicion import suspicion

TOP_SHARE = 0.25
"""Of the tiles, those that count under ``top``."""

_Number = TypeVar("_Number", np.float32, np.float64)
_Floats = NDArray[np.float64]


def join_scores(scores: Scores, counts: Sequence[int], join: TileJoin) -> Scores:
    """Join the scores of tiles to those of their pictures.

    Args:
        scores: of ``n`` tiles, those of a picture one after the other.
        counts: tiles of each picture, at least 1; their sum is n.
        join: see the module.

    Returns:
        The scores of ``len(counts)`` pictures; an embedding is the mean over its tiles.
    """
    if all(count == 1 for count in counts):
        return scores
    likelihood, p, embedding, *_ = scores  # nothing combines the heads of a detector of whole pictures
    return Scores(
        None if likelihood is None else join_log_likelihoods(likelihood, counts, join),
        None if p is None else join_probabilities(p, counts, join),
        np.stack([part.mean(0, dtype=np.float64) for part in _parts(embedding, counts)]).astype(np.float32),
    )


def join_log_likelihoods(values: _Floats, counts: Sequence[int], join: TileJoin) -> _Floats:
    """Join log-likelihoods ``[n]`` of tiles to ``[len(counts)]``."""
    return -_joined(-values, counts, join)


def join_probabilities(p: _Floats, counts: Sequence[int], join: TileJoin) -> _Floats:
    """Join P(AI-generated) ``[n]`` of tiles to ``[len(counts)]``, by their log-odds."""
    odds = _joined(suspicion(-p, "binary"), counts, join)
    # The exponential of what is below 0 alone: it neither overflows nor loses the digits of a small P.
    small = np.exp(-np.abs(odds))
    joined = np.where(odds < 0, small, 1.0) / (1.0 + small)
    alone = np.asarray(counts) == 1
    joined[alone] = p[np.cumsum(counts)[alone] - 1]
    return joined


def tile_counts(pictures: NDArray[Any]) -> list[int]:
    """Count the tiles of each picture, given the picture of each tile ``[n]``, one after the other."""
    starts = np.flatnonzero(np.r_[True, pictures[1:] != pictures[:-1]]) if len(pictures) else np.empty(0)
    counts: list[int] = np.diff(np.r_[starts, len(pictures)]).astype(int).tolist()
    return counts


def _joined(values: _Floats, counts: Sequence[int], join: TileJoin) -> _Floats:
    return np.asarray([_JOINS[join](part) for part in _parts(values, counts)], np.float64)


def _parts(values: NDArray[_Number], counts: Sequence[int]) -> list[NDArray[_Number]]:
    return np.split(values, np.cumsum(counts)[:-1])


def _mean(values: _Floats) -> float:
    return float(values.mean())


def _top(values: _Floats) -> float:
    n = int(np.ceil(TOP_SHARE * len(values)))
    return float(np.sort(values)[-n:].mean())


_JOINS: dict[TileJoin, Callable[[_Floats], float]] = {"mean": _mean, "top": _top}
