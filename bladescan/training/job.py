"""One training from sources to an encoder run: the index of photographs, the loop, the plots."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bladescan.base.errors import DataError, UsageError
from bladescan.base.text import counted
from bladescan.detectors.calibration import needed_photographs
from bladescan.detectors.manifest import DEFAULT_FALSE_ALARM
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
from bladescan.training.photograph_split import check_shares, is_generated, split
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
    ai_generated: Given | None = None,
    seen: Seen = lambda n: None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> list[str]:
    """Index the photographs and train on them, alone or as one of the processes of ``torchrun``.

    Args:
        photographs: with a face or with EXIF tags.
        recipe: what to do.
        options: how to do it.
        ai_generated: labelled AI-generated pictures, for a recipe that learns to tell them; else None.
        seen: told of photographs that are indexed, so many more each time.
        progress: told of the training: speed and losses in words, steps done, steps in all.

    Returns:
        In the first process, of a recipe that learns what is AI-generated: the photographs that it has not
        learned from, by name. Else nothing.

    Raises:
        BladescanError: the photographs, the recipe, the device or the folder are of no use.
    """
    check_given(recipe, ai_generated)
    with joined(options.device) as world, contextlib.ExitStack() as stack:
        check_shares(recipe, world)
        world.from_first(lambda: runs.prepare(options.out_dir, recipe, resume=options.resume))
        log = _tensorboard(options, world, stack)
        given = [sources_of(part) for part in (photographs, ai_generated) if part is not None]
        index, entries = _entries(recipe, given, options, world, seen)
        kept_out = _kept_out(recipe, index, entries) if world.leads and recipe.supervised else []
        listener = TrainingListener(
            progress=lambda step: progress(shown(step, recipe), step.step, step.n_steps),
            log=log,
            say=_logger.info if world.leads else lambda _: None,
        )
        _train_and_draw(recipe, index, entries, options, world, listener)
        if not world.leads:
            return []
        if not recipe.supervised:
            run = options.out_dir
            next_step = f"bladescan fit --encoder {run} --photos DIR -o detector.safetensors"
            _logger.info("encoder run: %s; next: %s", run, next_step)
        return kept_out


def check_given(recipe: Recipe, ai_generated: Given | None) -> None:
    """Raise UsageError unless AI-generated pictures are there exactly where the recipe learns from them."""
    if recipe.supervised and ai_generated is None:
        raise UsageError(f"recipe {recipe.name} learns what is AI-generated: give --ai-generated DIR as well")
    if ai_generated is not None and not recipe.supervised:
        raise UsageError(
            f"recipe {recipe.name} learns from photographs alone: leave --ai-generated out here, and give it "
            "to `bladescan fit`"
        )


def _kept_out(recipe: Recipe, index: PhotographIndex, entries: Sequence[IndexEntry]) -> list[str]:
    """Name the photographs that are only measured, each once, in order.

    Raises:
        DataError: they are too few to calibrate a detector: to be said before the training, not after it.
    """
    digests = {e.digest for e in split(recipe, entries).held_out if not is_generated(e)}
    if len(digests) < (needed := needed_photographs(DEFAULT_FALSE_ALARM)):
        raise DataError(
            f"{len(digests)} photographs are held out, and a calibration needs at least {needed}: "
            "add photographs or raise data.held_out"
        )
    files = {digest: os.fsdecode(stamp.path) for stamp, digest in index.files().items() if digest in digests}
    return sorted(files.values())


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
    sources: Iterable[Source],
    path: Path,
    faces: str,
    seen: Seen = lambda n: None,
    what: str = "photograph",
) -> tuple[PhotographIndex, Indexed]:
    """Index photographs, with as many processes as there are cores, and say what became of them.

    Args:
        sources: the photographs.
        path: of the index.
        faces: name of the face finder.
        seen: told of photographs as they are done.
        what: to call one in messages.

    Raises:
        DataError: no photograph has a usable face, or the file is no index.
        BackendError: the face finder cannot be had.
    """
    index = open_index(path, faces)
    if index.notice:
        _logger.warning("%s", index.notice)
    names = (source.name for source in sources if source.problem is None)
    indexed = index_photographs(names, index, faces, n_workers=n_cores(), progress=seen, what=what)
    skipped = ", ".join(f"{n} {reason}" for reason, n in indexed.skipped.items()) or "none"
    _logger.info(
        f"{counted(len(indexed.faces), what)} with a face, {len(indexed.patches)} without one but with EXIF; "
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
    recipe: Recipe, given: Sequence[Iterable[Source]], options: TrainOptions, world: World, seen: Seen
) -> tuple[PhotographIndex, list[IndexEntry]]:
    """List the pictures of this run, photographs first; the first process indexes them for all."""
    path = options.index or options.out_dir.parent / INDEX_FILE
    faces = finder_for(recipe, options.faces)

    def filled() -> list[Indexed]:
        kinds = ("photograph", "AI-generated picture")
        return [
            fill_index(sources, path, faces, seen, what)[1]
            for sources, what in zip(given, kinds, strict=False)
        ]

    photographs, *others = world.from_first(filled)
    generated = frozenset(digest for other in others for digest in other.faces)
    if both := generated.intersection(photographs.faces):
        raise DataError(
            f"the same file cannot be a photograph and AI-generated: {counted(len(both), 'file')} in both"
        )
    index = open_index(path, faces, generated if others else None)
    wanted = {*photographs.faces, *photographs.patches, *generated}
    return index, [entry for entry in index.entries() if entry.digest in wanted]
