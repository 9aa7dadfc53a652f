"""One step of the training, bi-level or with fixed task weights, Eq. 11-19.

The mathematics is `bilevel` and `bladescan.pretext.losses`; here they meet a model, its minibatch and the
processes that share it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from bladescan.base.errors import DataError
from bladescan.pretext.examples import Batch
from bladescan.pretext.model import task_losses
from bladescan.tasks.recipe import Recipe
from bladescan.training.bilevel import (
    frozen_statistics,
    task_weight_gradient,
    virtual_parameters,
    weighted_gradient,
)
from bladescan.training.distributed import World
from bladescan.training.minibatches import (
    Minibatch,
)
from bladescan.training.state import TrainingState


class StepResult(NamedTuple):
    """The losses and the gradient of one step.

    Attributes:
        losses: of every task before the step, float32 ``[t]``.
        outer_loss: of the primary task on B_val after the virtual step; None without an outer loop.
        weight_gradient: of the outer objective with respect to the task weights, float64 ``[t]``, or None.
    """

    losses: Tensor
    outer_loss: Tensor | None = None
    weight_gradient: Tensor | None = None


def step(state: TrainingState, minibatch: Minibatch, recipe: Recipe, lr: float, world: World) -> StepResult:
    """Take one step: the outer loop moves the task weights, the inner one the parameters, Eq. 11-19.

    The forward pass at theta is made once: its graph serves the virtual step and, with the new weights, the
    refinement. It alone moves the batch norms' statistics.

    Args:
        state: is changed.
        minibatch: this process's share of B_tr and B_val, on the device.
        recipe: the variants.
        lr: learning rate of this step, which is alpha as well.
        world: the processes.

    Raises:
        DataError: a loss or a gradient is no finite number; the parameters are left as they were.
    """
    model, params, weights = state.model, state.params, state.weights
    minibatch = _with_all_targets(minibatch, world)
    on_train = functools.partial(_losses, state, minibatch.train, recipe, world)
    losses = on_train(params)
    _check_finite(state.names, losses.detach(), weights)
    outer_loss, weight_gradient = None, None
    if minibatch.validation is not None:
        with frozen_statistics(model):
            gradient = world.average(weighted_gradient(losses, weights, params, keep_graph=True))
            decay = recipe.inner.weight_decay if recipe.outer.virtual_weight_decay else 0.0
            virtual = virtual_parameters(params, gradient, alpha=lr, weight_decay=decay)
            on_validation = _losses(state, minibatch.validation, recipe, world, virtual)
            primary = state.one_hot(recipe.primary)
            outer_loss = (on_validation.detach() * primary).sum()
            direction = world.average(weighted_gradient(on_validation, primary, virtual))
            with _exact_float32(world):
                probe = functools.partial(on_train, precise=True)
                weight_gradient = task_weight_gradient(probe, params, direction, alpha=lr)
        state.move_weights(weight_gradient, recipe.outer)
    state.move_parameters(world.average(weighted_gradient(losses, weights, params)), lr, recipe.inner)
    return StepResult(losses.detach(), outer_loss, weight_gradient)


def _losses(
    state: TrainingState,
    batch: Batch,
    recipe: Recipe,
    world: World,
    params: Mapping[str, Tensor],
    *,
    precise: bool = False,
) -> Tensor:
    """Compute the task losses ``[t]`` of the whole minibatch, of which this process holds a share."""
    mixed = recipe.compute.precision == "bf16" and not precise
    with torch.autocast(world.device.type, torch.bfloat16, enabled=mixed):
        outputs: Tensor = functional_call(state.model, dict(params), (batch.pixels,))
    return task_losses(world.gather(outputs), batch.targets, state.model.columns, recipe.losses)


def _with_all_targets(minibatch: Minibatch, world: World) -> Minibatch:
    """Put the targets of all processes' shares beside the pixels of this one's."""

    def whole(batch: Batch) -> Batch:
        return Batch(batch.pixels, {name: world.gather(value) for name, value in batch.targets.items()})

    validation = None if minibatch.validation is None else whole(minibatch.validation)
    return Minibatch(whole(minibatch.train), validation)


@contextlib.contextmanager
def _exact_float32(world: World) -> Iterator[None]:
    """Compute the probes exactly: they differ in the fifth digit, and a GPU would round to ten bits."""
    if world.device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def _check_finite(names: Sequence[str], losses: Tensor, weights: Tensor) -> None:
    finite = (losses.isfinite() & weights.detach().isfinite()).tolist()
    if not all(finite):
        bad = ", ".join(name for name, good in zip(names, finite, strict=True) if not good)
        raise DataError(
            f"training diverged: the loss of {bad} is not finite: lower inner.lr or set inner.clip_norm"
        )
