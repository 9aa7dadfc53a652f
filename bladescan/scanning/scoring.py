"""Crops to scores: batches of a backend, the next laid ready while one is computed. It judges nothing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bladescan.base.records import Scores
from bladescan.detectors.tile_scores import join_scores
from bladescan.runtimes.backend import Backend, PendingScores

_UNDER_WAY = 2
"""Runs at a time: one is computed while the crops of the next are on their way."""


class CropScores:
    """The scores of some crops, under way; a backend that computes at once has them when this is made.

    Args:
        backend: the detector.
        crops: uint8 ``[n, 224, 224, 3]``; n may be 0.
        batch_size: most crops in a run.

    Attributes:
        seconds: that the caller has spent here.
    """

    def __init__(self, backend: Backend, crops: NDArray[np.uint8], batch_size: int) -> None:
        self._backend = backend
        self._ahead = deque(crops[i : i + batch_size] for i in range(0, len(crops), batch_size))
        self._under_way: deque[PendingScores] = deque()
        self._found: list[Scores] = []
        self.seconds = 0.0
        self.done()

    def done(self) -> bool:
        """Tell, without waiting, whether all scores are here; start further runs if there is room."""
        started = time.perf_counter()
        while True:
            while self._under_way and self._under_way[0].done():
                self._found.append(self._under_way.popleft().result())
            if not self._ahead or len(self._under_way) >= _UNDER_WAY:
                self.seconds += time.perf_counter() - started
                return not self._under_way
            self._under_way.append(self._backend.submit(self._ahead.popleft()))

    def result(self) -> Scores | None:
        """Wait for the scores, in the order of the crops; None when there is no crop.

        Raises:
            BackendError: the runtime failed.
        """
        while not self.done():
            started = time.perf_counter()
            self._found.append(self._under_way.popleft().result())
            self.seconds += time.perf_counter() - started
        return joined_scores(self._found)


def score_whole(
    backend: Backend, crops: NDArray[np.uint8], counts: Sequence[int], batch_size: int
) -> Scores | None:
    """Score crops and join those of each picture to one, by the detector's rule; a face has one crop.

    Args:
        backend: the detector.
        crops: ``[n, 224, 224, 3]``.
        counts: crops of each face or picture; their sum is n.
        batch_size: most crops in a run.
    """
    scores = score_in_batches(backend, crops, batch_size)
    return scores and join_scores(scores, counts, backend.manifest.picture_rule.join)


def score_in_batches(backend: Backend, crops: NDArray[np.uint8], batch_size: int) -> Scores | None:
    """Scores of crops ``[n, 224, 224, 3]``, at most ``batch_size`` in a run; None when there is no crop."""
    return CropScores(backend, crops, batch_size).result()


def joined_scores(parts: Sequence[Scores]) -> Scores | None:
    """Join scores of one detector's batches; None without a batch."""
    if not parts:
        return None
    columns: list[Any] = [
        None if column[0] is None else np.concatenate(column) for column in zip(*parts, strict=True)
    ]
    return Scores(*columns)
