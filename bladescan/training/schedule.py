"""The schedule of a training: the learning rate of a step; when lines, epochs and checkpoints are due."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from bladescan.tasks.recipe import InnerRecipe, Recipe

_LINES_PER_EPOCH = 20
_GAIN = 0.001
"""Of accuracy; less is a plateau, as in the code of CNNDetection."""


def learning_rate(step: int, n_steps: int, inner: InnerRecipe) -> float:
    """Compute the rate of a step: linear warm-up to ``inner.lr``, then a cosine to ``inner.final_lr``.

    Args:
        step: from 0.
        n_steps: in all; the cosine ends there.
        inner: the rates, and the share of the steps that warm up.
    """
    n_warmup = round(inner.warmup * n_steps)
    if step < n_warmup:
        return inner.lr * (step + 1) / n_warmup
    cosine = 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(n_steps - n_warmup, 1)))
    return inner.final_lr + (inner.lr - inner.final_lr) * cosine


def plateau_rate(accuracies: Iterable[float], inner: InnerRecipe) -> float:
    """Compute the rate after some epochs: ``inner.lr``, and a tenth of it after every plateau.

    Args:
        accuracies: on photographs kept out, one for each epoch so far.
        inner: the rate to start from, and how long a plateau lasts.
    """
    best, since, n_drops = -math.inf, 0, 0
    for accuracy in accuracies:
        since = 0 if accuracy >= best + _GAIN else since + 1
        best = max(best, accuracy) if not since else best
        if since == inner.patience:
            n_drops, since = n_drops + 1, 0
    return inner.lr / 10.0**n_drops


class Schedule:
    """When a line of the history, an epoch and a checkpoint are due, and how fast the run is.

    Args:
        recipe: epochs and size of a minibatch.
        steps_per_epoch: all of one length.
        first: steps done before.
        checkpoint_every_s: least time between checkpoints within an epoch.
    """

    def __init__(self, recipe: Recipe, steps_per_epoch: int, first: int, checkpoint_every_s: float) -> None:
        self.n_steps = steps_per_epoch * recipe.inner.epochs
        self.steps_per_epoch = steps_per_epoch
        self._per_line = -(-steps_per_epoch // _LINES_PER_EPOCH)
        self.first = first
        self._batch_size, self._every_s = recipe.inner.batch_size, checkpoint_every_s
        self._started_s = self._saved_s = time.monotonic()

    def ends_epoch(self, n_done: int) -> bool:
        """Tell whether an epoch ends after so many steps."""
        return n_done % self.steps_per_epoch == 0

    def ends_line(self, n_done: int) -> bool:
        """Tell whether a line of the history ends after so many steps."""
        return self.ends_epoch(n_done) or (n_done % self.steps_per_epoch) % self._per_line == 0

    def checkpoint_is_due(self, n_done: int) -> bool:
        """Tell whether to write a checkpoint, and take it for written.

        To be asked at the end of a line only: a resumed run then writes the same history.
        """
        due = self.ends_epoch(n_done) or time.monotonic() - self._saved_s >= self._every_s
        if due:
            self._saved_s = time.monotonic()
        return due

    def images_per_s(self, n_done: int) -> float:
        """Measure the speed since the start or the resume."""
        return (n_done - self.first) * self._batch_size / (time.monotonic() - self._started_s)
