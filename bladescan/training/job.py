"""One training from sources to an encoder run: the index of photographs, the loop, the plots."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bladescan.base.errors import DataError
from bladescan.photographs.faceless import NO_FACES
from bladescan.photographs.index import IndexEntry, PhotographIndex
from bladescan.photographs.indexing import Indexed, index_photographs, open_index
from bladescan.processes.resources import n_cores
from bladescan.sources.given import Given, sources_of
from bladescan.sources.source import Source
from bladescan.tasks.recipe import Recipe
from bladescan.training import loop, runs
from bladescan.training.distributed import World, joined
from bladescan.training.loop import TrainingListener, TrainingProgress
from bladescan.training.photograph_split import check_shares
from bladescan.training.plots import plot_losses, plot_weights
from bladescan.training.tensorboard import TensorBoardWriter

INDEX_FILE = "photographs.sqlite"
TENSORBOARD_FOLDER = "tensorboard"
_logger = logging.getLogger(__name__)

Seen = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How a training is run; nothing here changes what it learns.

    Attributes:
        out_dir: the run's folder.
        index: file of the index; None is `INDEX_FILE` beside the run's folder, where other runs find it.
        faces: name of the face finder.
        device: see `bladescan.training.distributed.choose_device`.
        resume: go on in a folder that holds the same recipe's run.
        checkpoint_every_s: least time between checkpoints within an epoch.
        tensorboard: write TensorBoard's files as well.
    """

    out_dir: Path
    index: Path | None = None
    faces: str = "auto"
    device: str = "auto"
    resume: bool = False
    checkpoint_every_s: float = 300.0
    tensorboard: bool = False


def train(
    photographs: Given,
    recipe: Recipe,
    options: TrainOptions,
    *,
    seen: Seen = lambda n: None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> None:
    """Index the photographs and train on them, alone or as one of the processes of ``torchrun``.

    Args:
        photographs: with a face or with EXIF tags.
        recipe: what to do.
        options: how to do it.
        seen: told of photographs that are indexed, so many more each time.
        progress: told of the training: speed and losses in words, steps done, steps in all.

    Raises:
        BladescanError: the photographs, the recipe, the device or the folder are of no use.
    """
    with joined(options.device) as world, contextlib.ExitStack() as stack:
        check_shares(recipe, world)
        world.from_first(lambda: runs.prepare(options.out_dir, recipe, resume=options.resume))
        log = _tensorboard(options, world, stack)
        index, entries = _entries(recipe, sources_of(photographs), options, world, seen)
        listener = TrainingListener(
            progress=lambda step: progress(shown(step, recipe), step.step, step.n_steps),
            log=log,
            say=_logger.info if world.leads else lambda _: None,
        )
        _train_and_draw(recipe, index, entries, options, world, listener)
        if world.leads:
            run = options.out_dir
            next_step = f"bladescan fit --encoder {run} --photos DIR -o detector.safetensors"
            _logger.info("encoder run: %s; next: %s", run, next_step)


def _tensorboard(
    options: TrainOptions, world: World, stack: contextlib.ExitStack
) -> Callable[[Mapping[str, object]], None]:
    """Open TensorBoard's files where they are asked for; the first process writes them."""
    if not options.tensorboard:
        return lambda line: None
    writer = stack.enter_context(TensorBoardWriter(options.out_dir / TENSORBOARD_FOLDER))
    return writer.log if world.leads else lambda line: None


def _train_and_draw(
    recipe: Recipe,
    index: PhotographIndex,
    entries: Sequence[IndexEntry],
    options: TrainOptions,
    world: World,
    listener: TrainingListener,
) -> None:
    try:
        loop.train(
            recipe,
            index,
            entries,
            options.out_dir,
            resume=True,
            world=world,
            checkpoint_every_s=options.checkpoint_every_s,
            listener=listener,
        )
    except DataError:
        # What led to a divergence is in the plots.
        draw_history(options.out_dir, world)
        raise
    draw_history(options.out_dir, world)


def fill_index(
    sources: Iterable[Source], path: Path, faces: str, seen: Seen = lambda n: None
) -> tuple[PhotographIndex, Indexed]:
    """Index photographs, with as many processes as there are cores, and say what became of them.

    Raises:
        DataError: no photograph has a usable face, or the file is no index.
        BackendError: the face finder cannot be had.
    """
    index = open_index(path, faces)
    if index.notice:
        _logger.warning("%s", index.notice)
    names = (source.name for source in sources if source.problem is None)
    indexed = index_photographs(names, index, faces, n_workers=n_cores(), progress=seen)
    skipped = ", ".join(f"{n} {reason}" for reason, n in indexed.skipped.items()) or "none"
    _logger.info(
        f"{len(indexed.faces)} photographs with a face, {len(indexed.patches)} without one but with EXIF; "
        f"skipped: {skipped}; index: {path}"
    )
    return index, indexed


def finder_for(recipe: Recipe, faces: str) -> str:
    """Name the face finder of a training: the one asked for, or the one that finds nothing."""
    return NO_FACES if recipe.data.subject == "image" else faces


def shown(progress: TrainingProgress, recipe: Recipe) -> str:
    """Write speed, the weighted loss and the primary task's for a progress line."""
    total = sum(progress.weights[name] * loss for name, loss in progress.losses.items())
    primary = progress.losses[recipe.primary]
    return f"{progress.images_per_s:.0f} images/s  loss {total:.3f}  {recipe.primary} {primary:.3f}"


def draw_history(out_dir: Path, world: World) -> None:
    """Draw losses and weights of a run, if it has any history."""
    history: list[Mapping[str, Any]] = list(runs.read_history(out_dir)) if world.leads else []
    if history:
        plot_losses(history, out_dir / runs.LOSSES_PLOT)
        plot_weights(history, out_dir / runs.WEIGHTS_PLOT)


def _entries(
    recipe: Recipe, sources: Iterable[Source], options: TrainOptions, world: World, seen: Seen
) -> tuple[PhotographIndex, list[IndexEntry]]:
    """List the photographs of this run; the first process indexes them for all."""
    path = options.index or options.out_dir.parent / INDEX_FILE
    faces = finder_for(recipe, options.faces)

    def filled() -> Indexed:
        return fill_index(sources, path, faces, seen)[1]

    indexed = world.from_first(filled)
    index = open_index(path, faces)
    wanted = {*indexed.faces, *indexed.patches}
    return index, [entry for entry in index.entries() if entry.digest in wanted]
