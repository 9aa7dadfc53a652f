"""The training loop: recipe and photographs in, an encoder run out.

The loop is `train`; one step, bi-level or with fixed weights, is `step`. Mathematics is in
`bilevel` and `bladescan.pretext.losses`, minibatches in `minibatches`, the folder's format in `runs`.

Seeded: weights, order, manipulations and augmentation follow from ``recipe.seed`` alone. The number of
loading processes changes nothing, and a run that was killed and resumed ends with the weights of an
undisturbed one, bit for bit, on the same machine with the same number of threads.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from bladescan.base.errors import DataError
from bladescan.photographs.index import IndexEntry, PhotographIndex
from bladescan.pretext.examples import Batch, Examples
from bladescan.pretext.model import PretextModel, task_losses
from bladescan.tasks.recipe import InnerRecipe, Recipe
from bladescan.training import runs
from bladescan.training.bilevel import (
    frozen_statistics,
    task_weight_gradient,
    virtual_parameters,
    weighted_gradient,
)
from bladescan.training.distributed import ALONE, World, share_batch_norms
from bladescan.training.minibatches import (
    Minibatch,
    Sampler,
    check_shares,
    examples,
    in_order,
    minibatches,
    split,
    split_digest,
)
from bladescan.training.state import TrainingState, new_training_state
from bladescan.training.task_accuracy import TaskAccuracy, task_accuracies

_MEASURE_BATCH = 32
_MANY = 1000  # photographs held out: more are prepared by processes of their own
_LINES_PER_EPOCH = 20


class StepResult(NamedTuple):
    """What one step saw.

    Attributes:
        losses: of every task before the step, float32 ``[t]``.
        outer_loss: of the primary task on B_val after the virtual step; None without an outer loop.
        weight_gradient: of the outer objective with respect to the task weights, float64 ``[t]``, or None.
    """

    losses: Tensor
    outer_loss: Tensor | None = None
    weight_gradient: Tensor | None = None


class Progress(NamedTuple):
    """Where a run stands, for a progress line.

    Attributes:
        step, n_steps: steps done and in all.
        losses: of the last step, by task.
        weights: of the tasks now.
        images_per_s: since the start or the resume.
    """

    step: int
    n_steps: int
    losses: dict[str, float]
    weights: dict[str, float]
    images_per_s: float


def step(state: TrainingState, minibatch: Minibatch, recipe: Recipe, lr: float, world: World) -> StepResult:
    """One iteration: the outer loop moves the task weights, the inner one the parameters, Eq. 11-19.

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
    minibatch = _with_whole_truth(minibatch, world)
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
    """The task losses ``[t]`` of the whole minibatch, of which this process holds a share."""
    mixed = recipe.compute.precision == "bf16" and not precise
    with torch.autocast(world.device.type, torch.bfloat16, enabled=mixed):
        outputs: Tensor = functional_call(state.model, dict(params), (batch.pixels,))
    return task_losses(world.gather(outputs), batch.truth, state.model.columns, recipe.losses)


def _with_whole_truth(minibatch: Minibatch, world: World) -> Minibatch:
    """The truth of all processes' shares beside the pixels of this one's."""

    def whole(batch: Batch) -> Batch:
        return Batch(batch.pixels, {name: world.gather(value) for name, value in batch.truth.items()})

    validation = None if minibatch.validation is None else whole(minibatch.validation)
    return Minibatch(whole(minibatch.train), validation)


@contextlib.contextmanager
def _exact_float32(world: World) -> Iterator[None]:
    """The probes differ in the fifth digit: a GPU must not round their products to ten bits."""
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


def learning_rate(step: int, n_steps: int, inner: InnerRecipe) -> float:
    """Linear warm-up to ``inner.lr``, then a cosine to ``inner.final_lr`` at ``n_steps``."""
    n_warmup = round(inner.warmup * n_steps)
    if step < n_warmup:
        return inner.lr * (step + 1) / n_warmup
    cosine = 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(n_steps - n_warmup, 1)))
    return inner.final_lr + (inner.lr - inner.final_lr) * cosine


def train(
    recipe: Recipe,
    index: PhotographIndex,
    entries: Sequence[IndexEntry],
    out_dir: Path,
    *,
    resume: bool = False,
    world: World = ALONE,
    checkpoint_every_s: float = 300.0,
    progress: Callable[[Progress], None] = lambda p: None,
    log: Callable[[Mapping[str, object]], None] = lambda line: None,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Train an encoder and write its run.

    Args:
        recipe: what to do.
        index: holds the photographs.
        entries: the photographs to use.
        out_dir: the run's folder; must be new or empty unless ``resume``.
        resume: go on where the run stopped, if there is a checkpoint.
        world: the processes; the first writes.
        checkpoint_every_s: least time between checkpoints within an epoch.
        progress: called after every step.
        log: called with every line of the history.
        say: called with what a person should know.

    Returns:
        ``out_dir``.

    Raises:
        DataError: too few photographs, or the training diverged: the last checkpoint stays.
        DetectorError: weights to start from that do not fit.
        UsageError: the folder holds another run, or one of other photographs; a minibatch cannot be shared.
        OutputError: the run cannot be written.
    """
    check_shares(recipe, world)
    world.from_first(lambda: runs.prepare(out_dir, recipe, resume=resume))
    parts = split(recipe, entries)
    photographs = split_digest(parts, index.finder)
    if recipe.data.held_out and not parts.held_out:
        say("nothing is held out to measure the tasks on: set data.held_out_by=content, or add photographs")
    tags = [e.tags for e in parts.train]
    state = new_training_state(recipe, world.device, tags, resumed=runs.has_checkpoint(out_dir), say=say)
    share_batch_norms(state.model, world)
    first = runs.load_checkpoint(out_dir, state, photographs) if resume else 0
    if first:
        say(f"resumed after step {first}")
    sampler = Sampler(recipe, parts, world, first)
    held_out = examples(recipe, index, [e.digest for e in parts.held_out])
    batches = minibatches(recipe, index, parts, sampler, pin=world.device.type == "cuda")
    clock = _Clock(recipe, sampler.steps_per_epoch, first, checkpoint_every_s)
    course: list[StepResult] = []
    for number in range(first, clock.n_steps):
        minibatch = _moved(next(batches), state, world)
        lr = learning_rate(number, clock.n_steps, recipe.inner)
        result = step(state, minibatch, recipe, lr, world)
        if not world.leads:
            continue
        course.append(result)
        progress(clock.progress(number + 1, state, course[-1]))
        if clock.ends_line(number + 1):
            line = _line(number + 1, clock, lr, course, state)
            if clock.ends_epoch(number + 1):
                measured = measure(state.model, held_out, n_workers=recipe.workers)
                line["held_out"] = {name: result._asdict() for name, result in measured.items()}
            runs.append_history(out_dir, line)
            log(line)
            course.clear()
            if clock.checkpoint_is_due(number + 1):
                runs.save_checkpoint(out_dir, state, number + 1, photographs)
    if world.leads:
        runs.save_encoder(out_dir, state, recipe, n_photographs=len(parts.train))
    world.wait()
    return out_dir


class _Clock:
    """When a line of the history, an epoch and a checkpoint are due; how fast the run is."""

    def __init__(self, recipe: Recipe, steps_per_epoch: int, first: int, checkpoint_every_s: float) -> None:
        self.n_steps = steps_per_epoch * recipe.inner.epochs
        self.steps_per_epoch = steps_per_epoch
        self._per_line = -(-steps_per_epoch // _LINES_PER_EPOCH)
        self._batch_size, self._first, self._every_s = recipe.inner.batch_size, first, checkpoint_every_s
        self._started_s = self._saved_s = time.monotonic()

    def ends_epoch(self, n_done: int) -> bool:
        return n_done % self.steps_per_epoch == 0

    def ends_line(self, n_done: int) -> bool:
        return self.ends_epoch(n_done) or (n_done % self.steps_per_epoch) % self._per_line == 0

    def checkpoint_is_due(self, n_done: int) -> bool:
        """At the end of a line only: a resumed run then writes the same history."""
        due = self.ends_epoch(n_done) or time.monotonic() - self._saved_s >= self._every_s
        if due:
            self._saved_s = time.monotonic()
        return due

    def progress(self, n_done: int, state: TrainingState, result: StepResult) -> Progress:
        rate = (n_done - self._first) * self._batch_size / (time.monotonic() - self._started_s)
        return Progress(n_done, self.n_steps, state.named(result.losses), state.named(state.weights), rate)


def _line(
    n_done: int, clock: _Clock, lr: float, course: Sequence[StepResult], state: TrainingState
) -> dict[str, object]:
    """One line of ``history.jsonl``: means since the last line, weights and temperature now."""
    losses = torch.stack([result.losses.double() for result in course]).mean(0)
    outer = [float(result.outer_loss) for result in course if result.outer_loss is not None]
    return {
        "step": n_done,
        "epoch": n_done / clock.steps_per_epoch,
        "lr": lr,
        "losses": state.named(losses),
        "outer_loss": sum(outer) / len(outer) if outer else None,
        "weights": state.named(state.weights),
        "temperature": state.temperature,
    }


def _moved(minibatch: Minibatch, state: TrainingState, world: World) -> Minibatch:
    """To the device, ordinal truth as classes where the recipe aligns tags instead of ranking them."""
    return Minibatch(*(None if b is None else _moved_batch(b, state, world) for b in minibatch))  # type: ignore[arg-type]


def _moved_batch(batch: Batch, state: TrainingState, world: World) -> Batch:
    truth = {name: batch.truth[name] for name in state.names}
    truth |= {name: as_classes(truth[name], edges) for name, edges in state.level_edges.items()}
    moved = {name: value.to(world.device, non_blocking=True) for name, value in truth.items()}
    return Batch(batch.pixels.to(world.device, non_blocking=True), moved)


def as_classes(values: Tensor, edges: Tensor) -> Tensor:
    """The level of each value, int64 ``[b]``, -1 where it is NaN; ``edges`` are the levels' upper ends."""
    return torch.where(values.isnan(), -1, torch.bucketize(values, edges))


@torch.no_grad()
def measure(model: PretextModel, held_out: Examples, *, n_workers: int = 0) -> dict[str, TaskAccuracy]:
    """TaskAccuracy every task on photographs that were kept out; empty if none were.

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
    outputs, truth = [], []
    for batch in in_order(held_out, _MEASURE_BATCH, n_workers if len(held_out) > _MANY else 0):
        outputs.append(model(batch.pixels.to(device)).float().cpu())
        truth.append(batch.truth)
    model.train()
    together = {name: torch.cat([part[name] for part in truth]) for name in model.columns}
    return task_accuracies(torch.cat(outputs), together, model.columns)
