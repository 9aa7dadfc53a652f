"""A tiny recipe, its photographs, and what is compared of a run."""

import numpy as np
import torch

from bladescan.networks.weights import read_safetensors
from bladescan.photographs.index import PhotographIndex
from bladescan.photographs.photograph import Photograph
from bladescan.pretext.examples import Batch
from bladescan.tasks import pretext_tasks as tasks
from bladescan.tasks.recipe import (
    AugmentationRecipe,
    DataRecipe,
    EncoderRecipe,
    InnerRecipe,
    ManipulationRecipe,
    OuterRecipe,
    Recipe,
    TextRecipe,
)
from bladescan.training import runs
from bladescan.training.minibatches import Minibatch

LANDMARKS = np.array([[45, 55], [75, 55], [60, 72], [48, 88], [72, 88]], np.float32)

TINY = Recipe(
    name="tiny",
    encoder=EncoderRecipe("resnet10", width=8, embedding_dim=16),
    text=TextRecipe("gpt2", layers=1, width=16, heads=2),
    manipulations=ManipulationRecipe(("face-warp", "mouth-flip-vertical"), pairs=True),
    augmentation=AugmentationRecipe(window=64),
    inner=InnerRecipe(lr=1e-3, batch_size=8, epochs=2, warmup=0.2, clip_norm=1.0),
    outer=OuterRecipe(lr=0.01, share=0.25),
    data=DataRecipe(held_out=0.2, patches=True),
    workers=0,
)

TAGS = {
    "iso_speed": [100.0, 400.0, 1600.0],
    "aperture": [1.8, 4.0, 11.0],
    "exposure_time": [1 / 500, 1 / 60, 0.5],
    "focal_length": [4.2, 35.0, 200.0],
    **{t.name: list(t.classes[:3]) for t in tasks.TASKS.values() if t.kind is tasks.TaskKind.CATEGORICAL},
}


def fill(path):
    """Eighteen faces, a third without EXIF, six patches; six cameras."""
    index = PhotographIndex(path, "known")
    rng = np.random.default_rng(0)
    for i in range(24):
        pixels = rng.integers(0, 256, (260, 260, 3) if i % 4 == 3 else (120, 120, 3)).astype(np.uint8)
        tags = (
            {name: values[i // 2 % len(values)] for name, values in TAGS.items()}
            if i % 3 or i % 4 == 3
            else {}
        )
        face = {} if i % 4 == 3 else {"box": (25.0, 25.0, 95.0, 95.0), "landmarks": LANDMARKS}
        photograph = Photograph(pixels, tags=tags, camera=f"make model {i % 6}" if tags else "", **face)
        index.add(f"{int((i + 0.5) / 24 * 2**32):08x}{(i * 2654435761) % 2**32:08x}" + "0" * 48, photograph)
    return index


def weights(run):
    return read_safetensors(run / runs.ENCODER_FILE)[0]


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


ORDINAL = [t.name for t in tasks.TASKS.values() if t.kind is tasks.TaskKind.ORDINAL]


def batch(n=8, seed=0):
    rng = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (n, 64, 64, 3), generator=rng, dtype=torch.uint8)
    coarse = torch.arange(n) % 2
    targets = {
        "coarse_manipulation": coarse,
        "fine_manipulation": coarse[:, None].float() * torch.tensor([1.0, 0.0, 1.0]),
    }
    for task in tasks.TASKS.values():
        if task.kind is tasks.TaskKind.ORDINAL:
            targets[task.name] = torch.rand(n, generator=rng, dtype=torch.float64)
        elif task.kind is tasks.TaskKind.CATEGORICAL:
            targets[task.name] = torch.randint(len(task.classes), (n,), generator=rng)
    return Batch(pixels, targets)


def both(recipe):
    return Minibatch(batch(), batch(seed=1) if recipe.bilevel else None)
