"""``bladescan train`` and ``recipes``: photographs to an encoder run, by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import (
    need_learning_side,
    raw_stdin,
    source_query,
)
from bladescan.command.terminal import ProgressLine

if TYPE_CHECKING:
    pass


@guarded
def train(
    photos: o.Photos,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the encoder run to write.")
    ],
    recipe: Annotated[
        str, typer.Option(metavar="NAME", help="Name or file of a recipe; see `bladescan recipes`.")
    ] = "small",
    changes: o.SetOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run from its last checkpoint.")
    ] = False,
    index: o.IndexFile = None,
    faces: o.Faces = "auto",
    device: o.Device = "auto",
    checkpoint_every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Time between two checkpoints within an epoch.")
    ] = 300.0,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write RUN/tensorboard.")] = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Train an encoder on photographs of faces by a recipe. Needs the extra `train`.

    Example: `bladescan train --recipe blades-small --photos photographs/ -o runs/mine`

    On several GPUs: `torchrun --nproc-per-node 4 -m bladescan train ...`
    """
    need_learning_side("train")
    from bladescan.sources.listing import list_sources
    from bladescan.tasks.recipe_files import load_recipe
    from bladescan.training.job import TrainOptions, run_train

    chosen = load_recipe(recipe, changes or [])
    options = TrainOptions(output, index, faces, device, resume, checkpoint_every, tensorboard)
    sources = list_sources(source_query(photos), stdin=raw_stdin())
    with ProgressLine("training", quiet=quiet) as line:
        run_train(chosen, sources, options, line.advance, line.set)


@guarded
def recipes(
    name: Annotated[str, typer.Argument(help="Recipe to print.")] = "", debug: o.Debug = False
) -> None:
    """List the shipped recipes, or print one with every key."""
    from bladescan.tasks.recipe_files import dump_recipe, load_recipe, shipped_recipes

    if name:
        print(dump_recipe(load_recipe(name)), end="")
        return
    for known, text in shipped_recipes().items():
        print(f"{known:16} {text.splitlines()[0].lstrip('# ')}")
