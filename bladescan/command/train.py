"""``bladescan train`` and ``recipes``: photographs to an encoder run, by a recipe."""

from __future__ import annotations

import bladescan
from bladescan.base.extras import need_learning_side
from bladescan.command import learning_options as lo
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import counter, listed, raw_stdin
from bladescan.command.terminal import ProgressLine


@guarded
def train(
    photos: lo.Photos,
    output: lo.TrainOutput,
    recipe: lo.Recipe = "small",
    ai_generated: lo.LabelledGenerated = None,
    changes: lo.SetOption = None,
    resume: lo.TrainResume = False,
    index: lo.IndexFile = None,
    faces: o.Faces = "auto",
    device: o.Device = "auto",
    checkpoint_every: lo.CheckpointEvery = 300.0,
    tensorboard: lo.Tensorboard = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Train an encoder on photographs by a recipe.

    The recipes cnnd and gramnet learn from --ai-generated as well, and make RUN/detector.safetensors.
    Needs the extra `train`.

    Example: `bladescan train --recipe blades-small --photos photographs/ -o runs/mine`

    On several GPUs: `torchrun --nproc-per-node 4 -m bladescan train ...`
    """
    need_learning_side("train")
    chosen = bladescan.load_recipe(recipe, changes or [])
    asked = bladescan.TrainOptions(output, index, faces, device, resume, checkpoint_every, tensorboard)
    stdin = raw_stdin()
    with ProgressLine("indexing", quiet=quiet, count=counter(photos, ai_generated)) as line:
        bladescan.train(
            listed(photos, stdin),
            chosen,
            asked,
            ai_generated=listed(ai_generated, stdin) if ai_generated else None,
            seen=line.advance,
            progress=line.set,
        )


@guarded
def recipes(name: lo.RecipesName = "", debug: o.Debug = False) -> None:
    """List the recipes, or print one in full."""
    from bladescan.tasks.shipped_recipes import shipped_recipes

    if name:
        need_learning_side("recipes NAME")
        from bladescan.tasks.recipe_files import dump_recipe

        print(dump_recipe(bladescan.load_recipe(name)), end="")
        return
    shipped = shipped_recipes()
    width = max(map(len, shipped))
    for known, text in shipped.items():
        print(f"{known:{width}}  {text.splitlines()[0].lstrip('# ')}")
