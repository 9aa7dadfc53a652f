"""The accuracy of a model's answers to the pretext tasks, against chance.

An ordinal tag is measured by the pairs that it ranks rightly, every other task by its accuracy. Chance is
what the best constant answer reaches on the same photographs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from bladescan.pretext.model import coarse_outputs, levels
from bladescan.tasks import pretext_tasks as tasks

_ROWS = 1024  # pairs are compared in blocks of so many rows: memory stays small for any number of images


class TaskAccuracy(NamedTuple):
    """The result of one task.

    Attributes:
        accuracy: share of right answers, in [0, 1]; of pairs for an ordinal tag, a tied answer counting 0.5.
        chance: share that the best constant answer gets right.
        n: images with a target.
    """

    accuracy: float
    chance: float
    n: int


def task_accuracies(
    outputs: Tensor, targets: Mapping[str, Tensor], columns: Mapping[str, slice]
) -> dict[str, TaskAccuracy]:
    """Measure every task that has something to compare.

    Args:
        outputs: ``[n, n_outputs]`` of a head on all the images.
        targets: by task name, see `bladescan.pretext.examples.Batch`.
        columns: of each task in ``outputs``.
    """
    found = {name: _measure(name, outputs[:, where], targets[name]) for name, where in columns.items()}
    return {name: result for name, result in found.items() if result is not None}


def ranking_accuracy(levels: Tensor, values: Tensor) -> float | None:
    """Measure the share of pairs with different tags in the right order; None if there is no such pair.

    Args:
        levels: predicted, ``[n]``.
        values: true, ``[n]``, NaN where missing.
    """
    present = ~values.isnan()
    r, v = levels[present], values[present]
    right, n_pairs = 0.0, 0
    for rows in torch.split(torch.arange(len(v)), _ROWS):
        higher = v[rows, None] > v[None, :]
        difference = (r[rows, None] - r[None, :])[higher]
        right += float((difference > 0).sum()) + 0.5 * float((difference == 0).sum())
        n_pairs += len(difference)
    return right / n_pairs if n_pairs else None


def _measure(name: str, outputs: Tensor, targets: Tensor) -> TaskAccuracy | None:
    kind = tasks.find_task(name).kind
    if kind is tasks.TaskKind.ORDINAL:
        accuracy = ranking_accuracy(levels(outputs), targets)
        return None if accuracy is None else TaskAccuracy(accuracy, 0.5, int((~targets.isnan()).sum()))
    if kind is tasks.TaskKind.FINE:
        return _fine(outputs, targets)
    if kind is tasks.TaskKind.COARSE:
        outputs = coarse_outputs(outputs)
    return _classes(outputs, targets)


def _classes(outputs: Tensor, targets: Tensor) -> TaskAccuracy | None:
    present = targets >= 0
    n = int(present.sum())
    if not n:
        return None
    right = float((outputs[present].argmax(1) == targets[present]).double().mean())
    return TaskAccuracy(right, int(targets[present].bincount().max()) / n, n)


def _fine(outputs: Tensor, targets: Tensor) -> TaskAccuracy | None:
    present = ~targets.isnan().any(1)
    n = int(present.sum())
    if not n:
        return None
    event = targets[present] > 0.5
    right = float(((outputs[present] > 0) == event).double().mean())
    share = event.double().mean(0)
    return TaskAccuracy(right, float(torch.maximum(share, 1 - share).mean()), n)
