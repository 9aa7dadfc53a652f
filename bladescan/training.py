"""The training loop: recipe and photographs in, an encoder run out.

The loop is `train`; one step is `step`. Mathematics is in `bladescan.losses`, examples in
`bladescan.photographs`, the folder's format in `bladescan.runs`.

Seeded: weights, order, manipulations and augmentation follow from ``recipe.seed`` alone. The number of
loading processes changes nothing, and a run that is resumed from its last epoch ends with the weights of an
undisturbed one, on the same machine with the same number of threads.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.data import DataLoader

from bladescan import runs, tasks
from bladescan.encoders import VisionEncoder
from bladescan.errors import DataError
from bladescan.losses import coarse_loss, fine_loss
from bladescan.manifest import Preprocessing
from bladescan.photographs import Batch, Examples, PhotographIndex, collate
from bladescan.recipe import InnerRecipe, Recipe

_MAX_LOGIT_SCALE = math.log(100.0)  # CLIP's bound on 1 / tau


class JointEmbedding(nn.Module):
    """Vision encoder, one vector per prompt, and the temperature: s(x, t) = <f(x), g(t)> / tau.

    The vectors are learned as they are: no prompt is read by a text encoder.

    Args:
        recipe: architecture, tasks and initial temperature.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        encoder, preprocessing = recipe.encoder, Preprocessing()
        self.vision = VisionEncoder(encoder.name, encoder.width, encoder.embedding_dim)
        n_prompts = len(tasks.prompts(recipe.tasks))
        self.prompts = nn.Parameter(torch.randn(n_prompts, encoder.embedding_dim))
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(recipe.text.temperature)))
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Similarities ``[b, n_prompts]`` of uint8 RGB crops ``[b, h, w, 3]``."""
        # A permuted view of channels-last bytes: converting it keeps the layout that convolutions like.
        x = (pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        image, text = normalize(self.vision(x), dim=1), normalize(self.prompts, dim=1)
        similarities: Tensor = image @ text.T * self.logit_scale.clamp(max=_MAX_LOGIT_SCALE).exp()
        return similarities


class Progress(NamedTuple):
    """Where a run stands, for a progress line.

    Attributes:
        step, n_steps: steps done and in all.
        losses: of the last step, by task.
        images_per_s: since the start or the resume.
    """

    step: int
    n_steps: int
    losses: dict[str, float]
    images_per_s: float


@dataclass(frozen=True, slots=True, eq=False)
class _Data:
    """Photographs split into those learned from and those kept out to measure on."""

    train: Examples
    held_out: Examples


class _Order:
    """Minibatches of (epoch, i): every epoch a new seeded order, its incomplete last minibatch dropped."""

    def __init__(self, n: int, per_batch: int, seed: int, epochs: Sequence[int]) -> None:
        self.n, self.per_batch, self.seed, self.epochs = n, per_batch, seed, epochs

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in self.epochs:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.n)
            for start in range(0, self.n - self.per_batch + 1, self.per_batch):
                yield [(epoch, int(i)) for i in order[start : start + self.per_batch]]

    def __len__(self) -> int:
        return len(self.epochs) * (self.n // self.per_batch)


def task_losses(similarities: Tensor, batch: Batch, names: Sequence[str], eps: float) -> dict[str, Tensor]:
    """The loss of every task, by name.

    Args:
        similarities: ``[b, n_prompts]``, the prompts of ``names`` one task after the other.
        batch: holds the truth.
        names: the tasks.
        eps: see `bladescan.losses.fidelity`.
    """
    where = tasks.columns(names)
    compute: dict[str, Callable[[Tensor], Tensor]] = {
        tasks.COARSE: lambda s: coarse_loss(s, batch.coarse, eps=eps),
        tasks.FINE: lambda s: fine_loss(s, batch.fine, eps=eps),
    }
    return {name: compute[name](similarities[:, where[name]]) for name in names}


def learning_rate(step: int, n_steps: int, inner: InnerRecipe) -> float:
    """Linear warm-up to ``inner.lr``, then a cosine to zero at ``n_steps``."""
    n_warmup = round(inner.warmup * n_steps)
    if step < n_warmup:
        return inner.lr * (step + 1) / n_warmup
    return inner.lr * 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(n_steps - n_warmup, 1)))


def step(
    model: JointEmbedding, optimizer: torch.optim.Optimizer, batch: Batch, recipe: Recipe, lr: float
) -> dict[str, float]:
    """One step of AdamW on the weighted sum of the task losses.

    Returns:
        The losses before the step, by task.

    Raises:
        DataError: a loss is no finite number; the weights are left as they were.
    """
    weights = {str(name): weight for name, weight in recipe.tasks.items()}
    losses = task_losses(model(batch.pixels), batch, list(weights), recipe.loss_eps)
    total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    if not math.isfinite(float(total.detach())):
        raise DataError(f"training diverged, losses {values}: lower inner.lr or set inner.clip_norm")
    optimizer.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    if recipe.inner.clip_norm:
        nn.utils.clip_grad_norm_(model.parameters(), recipe.inner.clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    return values


def train(
    recipe: Recipe,
    index: PhotographIndex,
    digests: Sequence[str],
    out_dir: Path,
    *,
    resume: bool = False,
    progress: Callable[[Progress], None] = lambda p: None,
) -> Path:
    """Train an encoder and write its run.

    Args:
        recipe: what to do.
        index: holds the photographs.
        digests: the photographs to use.
        out_dir: the run's folder; must be new or empty unless ``resume``.
        resume: go on after the last finished epoch, if there is one.
        progress: called after every step.

    Returns:
        ``out_dir``.

    Raises:
        DataError: too few photographs, or the training diverged.
        UsageError: the folder holds another run.
        OutputError: the run cannot be written.
    """
    runs.prepare(out_dir, recipe, resume=resume)
    data = _split(recipe, index, digests)
    torch.manual_seed(recipe.seed)
    model = JointEmbedding(recipe)
    model.vision = model.vision.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.inner.lr, weight_decay=recipe.inner.weight_decay
    )
    first = runs.load_checkpoint(out_dir, model, optimizer) if resume else 0
    epochs = range(first, recipe.inner.epochs)
    batches = iter(_loader(data.train, _order(recipe, data, epochs), recipe))
    clock = _Clock(time.monotonic(), first_epoch=first, steps_per_epoch=len(_order(recipe, data, [0])))
    for epoch in epochs:
        course = _epoch(model, optimizer, batches, recipe, epoch, clock, progress)
        entry = _entry(epoch, course, measure(model, data.held_out, recipe), model)
        runs.append_history(out_dir, entry)
        runs.save_checkpoint(out_dir, model, optimizer, epoch + 1)
    runs.save_encoder(out_dir, model, recipe, n_photographs=len(data.train))
    return out_dir


@dataclass(frozen=True, slots=True)
class _Clock:
    """Where a run began, to tell its speed."""

    started_s: float
    first_epoch: int
    steps_per_epoch: int


def _epoch(
    model: JointEmbedding,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
    recipe: Recipe,
    epoch: int,
    clock: _Clock,
    progress: Callable[[Progress], None],
) -> list[dict[str, float]]:
    """One pass over the photographs; the losses of every step."""
    model.train()
    n_steps = clock.steps_per_epoch * recipe.inner.epochs
    course = []
    for number in range(epoch * clock.steps_per_epoch, (epoch + 1) * clock.steps_per_epoch):
        lr = learning_rate(number, n_steps, recipe.inner)
        course.append(step(model, optimizer, next(batches), recipe, lr))
        n_done = number + 1 - clock.first_epoch * clock.steps_per_epoch
        rate = n_done * recipe.inner.batch_size / (time.monotonic() - clock.started_s)
        progress(Progress(number + 1, n_steps, course[-1], rate))
    return course


@torch.inference_mode()
def measure(model: JointEmbedding, examples: Examples, recipe: Recipe) -> dict[str, float]:
    """Accuracy of the tasks on photographs that were kept out; empty if none were.

    The examples are those of epoch 0 whatever the training has done, so that the figures can be compared.
    """
    if not len(examples):
        return {}
    model.eval()
    where = tasks.columns(recipe.tasks)
    right: dict[str, list[Tensor]] = {name: [] for name in recipe.tasks}
    order = _Order(len(examples), min(32, len(examples)), recipe.seed, [0])
    for batch in _loader(examples, order, recipe, workers=0):
        similarities = model(batch.pixels)
        coarse = similarities[:, where[tasks.COARSE]].argmax(1) == batch.coarse
        right[tasks.COARSE].append(coarse.float())
        if tasks.FINE in where:
            fine = (similarities[:, where[tasks.FINE]] > 0) == (batch.fine > 0.5)
            right[tasks.FINE].append(fine.float().mean(1))
    return {name: float(torch.cat(hits).mean()) for name, hits in right.items()}


def _entry(
    epoch: int, course: Sequence[Mapping[str, float]], measured: Mapping[str, float], model: JointEmbedding
) -> dict[str, object]:
    """One line of ``history.jsonl``."""
    return {
        "epoch": epoch + 1,
        "losses": {name: sum(losses[name] for losses in course) / len(course) for name in course[0]},
        "held_out_accuracy": dict(measured),
        "temperature": float((-model.logit_scale.detach()).exp()),
    }


def _split(recipe: Recipe, index: PhotographIndex, digests: Sequence[str]) -> _Data:
    """Keep a share out by content: the same photograph is always on the same side."""
    held_out = [d for d in digests if int(d[:8], 16) < recipe.held_out * 2**32]
    kept = sorted(set(digests) - set(held_out))
    per_batch = recipe.inner.batch_size // (2 if recipe.manipulations.pairs else 1)
    if len(kept) < per_batch:
        raise DataError(
            f"{len(kept)} photographs to learn from ({len(held_out)} kept out), but a minibatch takes "
            f"{per_batch}: add photographs or lower inner.batch_size"
        )
    make = functools.partial(
        Examples,
        index,
        manipulation=recipe.manipulations,
        augmentation=recipe.augmentation,
        seed=recipe.seed,
    )
    return _Data(make(kept), make(sorted(held_out)))


def _order(recipe: Recipe, data: _Data, epochs: Sequence[int]) -> _Order:
    per_batch = recipe.inner.batch_size // (2 if recipe.manipulations.pairs else 1)
    return _Order(len(data.train), per_batch, recipe.seed, epochs)


def _loader(
    examples: Examples, order: _Order, recipe: Recipe, *, workers: int | None = None
) -> DataLoader[Batch]:
    return DataLoader(
        examples,
        batch_sampler=order,
        num_workers=recipe.workers if workers is None else workers,
        collate_fn=collate,
        worker_init_fn=_quiet_worker,
    )


def _quiet_worker(_: int) -> None:
    # One process per worker is the parallelism; OpenCV's own threads would fight over the same cores.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
