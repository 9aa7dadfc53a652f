"""Entries of an index to split and to draw from."""

import dataclasses
import hashlib

from bladescan.exif.tags import EXIF_TASKS
from bladescan.photographs.index import IndexEntry
from bladescan.tasks.pretext_tasks import TASKS
from bladescan.tasks.recipe import DataRecipe, InnerRecipe, Recipe

ALL_TAGS = {
    name: 1.0 if TASKS[name].kind.value == "ordinal" else TASKS[name].classes[0] for name in EXIF_TASKS
}

RECIPE = Recipe(inner=InnerRecipe(batch_size=16), data=DataRecipe(held_out=0.2))


def entry(i, kind="face", tags=None, camera=""):
    return IndexEntry(hashlib.sha256(str(i).encode()).hexdigest(), kind, tags or {}, camera, None)


def faces(n, n_cameras=10, tags=ALL_TAGS):
    return [entry(i, tags=tags, camera=f"camera {i % n_cameras}") for i in range(n)]


def with_data(recipe=RECIPE, **changes):
    return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, **changes))
