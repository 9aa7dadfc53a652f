"""``bladescan train`` and ``recipes``: photographs to an encoder run, by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import bladescan
from bladescan.base.extras import need_learning_side
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import listed, raw_stdin
from bladescan.command.terminal import ProgressLine


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
    chosen = bladescan.load_recipe(recipe, changes or [])
    asked = bladescan.TrainOptions(output, index, faces, device, resume, checkpoint_every, tensorboard)
    with ProgressLine("training", quiet=quiet) as line:
        bladescan.train(listed(photos, raw_stdin()), chosen, asked, seen=line.advance, progress=line.set)


@guarded
def recipes(
    name: Annotated[str, typer.Argument(help="Recipe to print.")] = "", debug: o.Debug = False
) -> None:
    """List the shipped recipes, or print one with every key."""
    from bladescan.tasks.recipe_files import dump_recipe, shipped_recipes

    if name:
        print(dump_recipe(bladescan.load_recipe(name)), end="")
        return
    shipped = shipped_recipes()
    width = max(map(len, shipped))
    for known, text in shipped.items():
        print(f"{known:{width}}  {text.splitlines()[0].lstrip('# ')}")
