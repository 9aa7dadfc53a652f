"""The training loop: recipe and photographs in, an encoder run out.

The loop is `train`; one step, bi-level or with fixed weights, is `step`. Mathematics is in `bilevel` and
`bladescan.pretext.losses`, minibatches in `minibatches`, the folder's format in `runs`.

Seeded: weights, order, manipulations and augmentation follow from ``recipe.seed`` alone. The number of
loading processes changes nothing, and a run that was killed and resumed ends with the weights of an
undisturbed one, bit for bit, on the same machine with the same number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from bladescan.photographs.index import IndexEntry, PhotographIndex
from bladescan.pretext.examples import Batch, Examples
from bladescan.tasks.recipe import Recipe
from bladescan.training import runs
from bladescan.training.distributed import ALONE, World, share_batch_norms
from bladescan.training.held_out import measure_held_out
from bladescan.training.minibatches import (
    Minibatch,
    Sampler,
    Split,
    check_shares,
    examples,
    minibatches,
    split,
    split_digest,
)
from bladescan.training.schedule import Schedule, learning_rate
from bladescan.training.state import TrainingState, new_training_state
from bladescan.training.step import StepResult, step


class TrainingProgress(NamedTuple):
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


def train(
    recipe: Recipe,
    index: PhotographIndex,
    entries: Sequence[IndexEntry],
    out_dir: Path,
    *,
    resume: bool = False,
    world: World = ALONE,
    checkpoint_every_s: float = 300.0,
    progress: Callable[[TrainingProgress], None] = lambda p: None,
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
    if recipe.data.held_out and not parts.held_out:
        say("nothing is held out to measure the tasks on: set data.held_out_by=content, or add photographs")
    photographs = split_digest(parts, index.finder)
    state, first = _start(recipe, parts, photographs, out_dir, world, resume=resume, say=say)
    sampler = Sampler(recipe, parts, world, first)
    held_out = examples(recipe, index, [e.digest for e in parts.held_out])
    batches = minibatches(recipe, index, parts, sampler, pin=world.device.type == "cuda")
    schedule = Schedule(recipe, sampler.steps_per_epoch, first, checkpoint_every_s)
    recorder = _Recorder(recipe, out_dir, state, schedule, held_out, photographs, log)
    for number, minibatch in zip(range(first, schedule.n_steps), batches, strict=False):
        lr = learning_rate(number, schedule.n_steps, recipe.inner)
        result = step(state, _on_device(minibatch, state, world), recipe, lr, world)
        if world.leads:
            progress(_progress(number + 1, schedule, state, result))
            recorder.record(number + 1, lr, result)
    if world.leads:
        runs.save_encoder(out_dir, state, recipe, n_photographs=len(parts.train))
    world.wait()
    return out_dir


def _start(
    recipe: Recipe,
    parts: Split,
    photographs: str,
    out_dir: Path,
    world: World,
    *,
    resume: bool,
    say: Callable[[str], None],
) -> tuple[TrainingState, int]:
    """Make the state to go on from, fresh or of the last checkpoint, and count the steps done."""
    tags = [e.tags for e in parts.train]
    resumed = runs.has_checkpoint(out_dir)
    state = new_training_state(recipe, world.device, tags, resumed=resumed, say=say)
    share_batch_norms(state.model, world)
    n_done = runs.load_checkpoint(out_dir, state, photographs) if resume else 0
    if n_done:
        say(f"resumed after step {n_done}")
    return state, n_done


class _Recorder:
    """Keeps what the steps saw, and writes the lines of the history and the checkpoints when they are due."""

    def __init__(
        self,
        recipe: Recipe,
        out_dir: Path,
        state: TrainingState,
        schedule: Schedule,
        held_out: Examples,
        photographs: str,
        log: Callable[[Mapping[str, object]], None],
    ) -> None:
        self._n_workers, self._out_dir, self._state = recipe.workers, out_dir, state
        self._schedule, self._held_out, self._photographs = schedule, held_out, photographs
        self._log = log
        self._course: list[StepResult] = []

    def record(self, n_done: int, lr: float, result: StepResult) -> None:
        """Take in one step."""
        self._course.append(result)
        if not self._schedule.ends_line(n_done):
            return
        line = _line(n_done, self._schedule, lr, self._course, self._state)
        if self._schedule.ends_epoch(n_done):
            measured = measure_held_out(self._state.model, self._held_out, n_workers=self._n_workers)
            line["held_out"] = {name: accuracy._asdict() for name, accuracy in measured.items()}
        runs.append_history(self._out_dir, line)
        self._log(line)
        self._course.clear()
        if self._schedule.checkpoint_is_due(n_done):
            runs.save_checkpoint(self._out_dir, self._state, n_done, self._photographs)


def _progress(n_done: int, schedule: Schedule, state: TrainingState, result: StepResult) -> TrainingProgress:
    losses, weights = state.named(result.losses), state.named(state.weights)
    return TrainingProgress(n_done, schedule.n_steps, losses, weights, schedule.images_per_s(n_done))


def _line(
    n_done: int, schedule: Schedule, lr: float, course: Sequence[StepResult], state: TrainingState
) -> dict[str, object]:
    """Write one line of ``history.jsonl``: means since the last line, weights and temperature now."""
    losses = torch.stack([result.losses.double() for result in course]).mean(0)
    outer = [float(result.outer_loss) for result in course if result.outer_loss is not None]
    return {
        "step": n_done,
        "epoch": n_done / schedule.steps_per_epoch,
        "lr": lr,
        "losses": state.named(losses),
        "outer_loss": sum(outer) / len(outer) if outer else None,
        "weights": state.named(state.weights),
        "temperature": state.temperature,
    }


def _on_device(minibatch: Minibatch, state: TrainingState, world: World) -> Minibatch:
    """Move to the device, ordinal truth as classes where the recipe aligns tags instead of ranking them."""
    return Minibatch(*(None if b is None else _batch_on_device(b, state, world) for b in minibatch))  # type: ignore[arg-type]


def _batch_on_device(batch: Batch, state: TrainingState, world: World) -> Batch:
    truth = {name: batch.truth[name] for name in state.names}
    truth |= {name: as_classes(truth[name], edges) for name, edges in state.level_edges.items()}
    moved = {name: value.to(world.device, non_blocking=True) for name, value in truth.items()}
    return Batch(batch.pixels.to(world.device, non_blocking=True), moved)


def as_classes(values: Tensor, edges: Tensor) -> Tensor:
    """Find the level of each value, int64 ``[b]``, -1 where it is NaN.

    Args:
        values: of a tag, ``[b]``.
        edges: upper ends of the lower levels, ascending.
    """
    return torch.where(values.isnan(), -1, torch.bucketize(values, edges))
