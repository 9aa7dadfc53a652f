"""The training loop: recipe and photographs in, an encoder run out.

The loop is `train`; one step, bi-level or with fixed weights, is `step`. Mathematics is in `bilevel` and
`bladescan.pretext.losses`, minibatches in `minibatches`, the folder's format in `runs`.

Seeded: weights, order, manipulations and augmentation follow from ``recipe.seed`` alone. The number of
loading processes changes nothing, and a run that was killed and resumed ends with the weights of an
undisturbed one, bit for bit, on the same machine with the same number of threads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from bladescan.photographs.index import IndexEntry, PhotographIndex
from bladescan.pretext.examples import Batch, Examples
from bladescan.tasks.recipe import Recipe
from bladescan.training import runs
from bladescan.training.autoencoders import with_autoencoders
from bladescan.training.distributed import ALONE, World, share_batch_norms
from bladescan.training.held_out import measure_held_out
from bladescan.training.minibatches import Minibatch, Sampler, examples, minibatches
from bladescan.training.photograph_split import Split, check_shares, split, split_digest
from bladescan.training.schedule import Schedule, learning_rate, plateau_rate
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


class TrainingListener(NamedTuple):
    """Who is told of a training.

    Attributes:
        progress: called after every step.
        log: called with every line of the history.
        say: called with what a person should know.
    """

    progress: Callable[[TrainingProgress], None] = lambda progress: None
    log: Callable[[Mapping[str, object]], None] = lambda line: None
    say: Callable[[str], None] = lambda text: None


NOBODY = TrainingListener()
"""Tells nobody."""


def train(
    recipe: Recipe,
    index: PhotographIndex,
    entries: Sequence[IndexEntry],
    out_dir: Path,
    *,
    resume: bool = False,
    world: World = ALONE,
    checkpoint_every_s: float = 300.0,
    listener: TrainingListener = NOBODY,
) -> Path:
    """Train an encoder and write its run to ``out_dir``, which is returned.

    Args:
        recipe: what to do.
        index: holds the photographs.
        entries: the photographs to use.
        out_dir: the run's folder; must be new or empty unless ``resume``.
        resume: go on where the run stopped, if there is a checkpoint.
        world: the processes; the first writes.
        checkpoint_every_s: least time between checkpoints within an epoch.
        listener: told of steps, lines and notices.

    Raises:
        RecipeError: an autoencoder that the recipe names is none.
        DataError: too few photographs, or the training diverged: the last checkpoint stays.
        DetectorError: weights to start from that do not fit.
        UsageError: the folder holds another run, or one of other photographs; a minibatch cannot be shared.
        OutputError: the run cannot be written.
    """
    check_shares(recipe, world)
    world.from_first(lambda: runs.prepare(out_dir, recipe, resume=resume))
    parts = split(recipe, entries)
    drawn = world.from_first(lambda: with_autoencoders(recipe, index, parts, out_dir, listener.say))
    plateau = parts.validation if recipe.inner.schedule == "plateau" else ()
    held_out, validation = (
        examples(drawn, index, [e.digest for e in part]) for part in (parts.held_out, plateau)
    )
    recorder = _Recorder(recipe, parts, held_out, validation, out_dir, listener)
    state, first = _start(recipe, parts, recorder, world, resume=resume)
    sampler = Sampler(recipe, parts, world, first)
    batches = minibatches(drawn, index, parts, sampler, pin=world.device.type == "cuda")
    schedule = Schedule(recipe, sampler.steps_per_epoch, first, checkpoint_every_s)
    _learn(recipe, state, batches, schedule, recorder, world)
    world.wait()
    return out_dir


def _start(
    recipe: Recipe, parts: Split, recorder: _Recorder, world: World, *, resume: bool
) -> tuple[TrainingState, int]:
    """Make the state to go on from, fresh or of the last checkpoint, and count the steps done."""
    say, out_dir = recorder.listener.say, recorder.out_dir
    if recipe.data.held_out and not parts.held_out:
        say("nothing is held out to measure the tasks on: set data.held_out_by=content, or add photographs")
    tags = [e.tags for e in parts.train]
    resumed = runs.has_checkpoint(out_dir)
    state = new_training_state(recipe, world.device, tags, resumed=resumed, say=say)
    share_batch_norms(state.model, world)
    n_done = runs.load_checkpoint(out_dir, state, recorder.photographs) if resume else 0
    if n_done:
        say(f"resumed after step {n_done}")
    return state, n_done


def _learn(
    recipe: Recipe,
    state: TrainingState,
    batches: Iterator[Minibatch],
    schedule: Schedule,
    recorder: _Recorder,
    world: World,
) -> None:
    """Take all the steps that are left, and write the encoder."""
    rates = _rates(recipe, schedule, recorder.out_dir, world)
    for (number, lr), minibatch in zip(rates, batches, strict=False):
        result = step(state, _on_device(minibatch, state, world), recipe, lr, world)
        if world.leads:
            recorder.record(number + 1, lr, result, state, schedule)
    if world.leads:
        recorder.finish(state)


def _rates(recipe: Recipe, schedule: Schedule, out_dir: Path, world: World) -> Iterator[tuple[int, float]]:
    """Yield the number and the learning rate of each step that is left; a plateau may leave fewer."""
    inner = recipe.inner
    rate = inner.lr
    for number in range(schedule.first, schedule.n_steps):
        if inner.schedule == "cosine":
            rate = learning_rate(number, schedule.n_steps, inner)
        elif number == schedule.first or schedule.ends_epoch(number):
            # By the history alone, so that a resumed run goes on at the same rate.
            known = functools.partial(_accuracies, out_dir, number, recipe.primary)
            rate = plateau_rate(world.from_first(known), inner)
            if rate < inner.final_lr * (1 - 1e-6):
                return
        yield number, rate


def _accuracies(out_dir: Path, n_done: int, task: str) -> list[float]:
    """Read the accuracy of a task at the end of each epoch so far, on the photographs that show a plateau."""
    lines = (line for line in runs.read_history(out_dir) if line["step"] <= n_done)
    return [line["validation"][task]["accuracy"] for line in lines if "validation" in line]


class _Recorder:
    """Tells what the steps saw, and writes history, checkpoints and encoder when they are due.

    Attributes:
        photographs: digest of those that the run learns from and measures on.
    """

    def __init__(
        self,
        recipe: Recipe,
        parts: Split,
        held_out: Examples,
        validation: Examples,
        out_dir: Path,
        listener: TrainingListener,
    ) -> None:
        self.out_dir, self.listener = out_dir, listener
        self.photographs = split_digest(parts, held_out.index.finder)
        self._recipe, self._n_photographs = recipe, len(parts.train)
        self._held_out, self._validation = held_out, validation
        self._course: list[StepResult] = []

    def record(
        self, n_done: int, lr: float, result: StepResult, state: TrainingState, schedule: Schedule
    ) -> None:
        """Take in one step."""
        self._course.append(result)
        self.listener.progress(_progress(n_done, schedule, state, result))
        if not schedule.ends_line(n_done):
            return
        line = _line(n_done, schedule, lr, self._course, state)
        if schedule.ends_epoch(n_done):
            line["held_out"] = self._measured(state, self._held_out)
            if len(self._validation):
                line["validation"] = self._measured(state, self._validation)
        runs.append_history(self.out_dir, line)
        self.listener.log(line)
        self._course.clear()
        if schedule.checkpoint_is_due(n_done):
            runs.save_checkpoint(self.out_dir, state, n_done, self.photographs)

    def _measured(self, state: TrainingState, kept_out: Examples) -> dict[str, dict[str, float]]:
        measured = measure_held_out(state.model, kept_out, n_workers=self._recipe.workers)
        return {name: accuracy._asdict() for name, accuracy in measured.items()}

    def finish(self, state: TrainingState) -> None:
        """Write the encoder."""
        runs.save_encoder(self.out_dir, state, self._recipe, n_photographs=self._n_photographs)


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
    """Move to the device, ordinal targets as classes where the recipe aligns tags instead of ranking them."""
    return Minibatch(*(None if b is None else _batch_on_device(b, state, world) for b in minibatch))  # type: ignore[arg-type]


def _batch_on_device(batch: Batch, state: TrainingState, world: World) -> Batch:
    targets = {name: batch.targets[name] for name in state.names}
    targets |= {name: as_classes(targets[name], edges) for name, edges in state.level_edges.items()}
    moved = {name: value.to(world.device, non_blocking=True) for name, value in targets.items()}
    return Batch(batch.pixels.to(world.device, non_blocking=True), moved)


def as_classes(values: Tensor, edges: Tensor) -> Tensor:
    """Find the level of each value, int64 ``[b]``, -1 where it is NaN.

    Args:
        values: of a tag, ``[b]``.
        edges: upper ends of the lower levels, ascending.
    """
    return torch.where(values.isnan(), -1, torch.bucketize(values, edges))
