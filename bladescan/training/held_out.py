"""The pretext tasks answered on photographs that were kept out of the training."""

from __future__ import annotations

import torch

from bladescan.pretext.examples import Examples
from bladescan.pretext.model import PretextModel
from bladescan.training.minibatches import (
    in_order,
)
from bladescan.training.task_accuracy import TaskAccuracy, task_accuracies

_MEASURE_BATCH = 32
_MANY = 1000  # photographs held out: more are prepared by processes of their own


@torch.no_grad()
def measure_held_out(
    model: PretextModel, held_out: Examples, *, n_workers: int = 0
) -> dict[str, TaskAccuracy]:
    """Measure every task on photographs that were kept out; empty if none were.

    The examples are the same whatever the training has done, so that the figures can be compared.

    Args:
        model: left in training mode.
        held_out: the examples.
        n_workers: processes that prepare them, where they are many.
    """
    if not len(held_out):
        return {}
    device = model.mean.device
    model.eval()
    outputs, targets = [], []
    for batch in in_order(held_out, _MEASURE_BATCH, n_workers if len(held_out) > _MANY else 0):
        outputs.append(model(batch.pixels.to(device)).float().cpu())
        targets.append(batch.targets)
    model.train()
    together = {name: torch.cat([part[name] for part in targets]) for name in model.columns}
    return task_accuracies(torch.cat(outputs), together, model.columns)
