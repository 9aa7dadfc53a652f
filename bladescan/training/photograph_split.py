"""The photographs of a training by their use: learned from, validated on, only measured."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from bladescan.base.errors import DataError, UsageError
from bladescan.base.text import counted
from bladescan.photographs.index import IndexEntry
from bladescan.tasks import pretext_tasks as tasks
from bladescan.tasks.recipe import Recipe
from bladescan.training.distributed import World


class Split(NamedTuple):
    """Photographs by their use; no photograph is in two parts, unless the recipe validates on training ones.

    Attributes:
        train: learned from (B_tr).
        validation: of the outer loop (B_val), or to see a plateau of the accuracy; empty without either.
        held_out: only measured.
    """

    train: tuple[IndexEntry, ...]
    validation: tuple[IndexEntry, ...]
    held_out: tuple[IndexEntry, ...]


def split(recipe: Recipe, entries: Sequence[IndexEntry]) -> Split:
    """Divide photographs by their content, or by their camera.

    Args:
        recipe: says by what, and which photographs count at all.
        entries: usable faces and patch sources.

    Raises:
        DataError: a part is too small.
    """
    usable = sorted((e for e in entries if _counts(recipe, e)), key=lambda e: e.digest)
    kept_out = _kept_out(recipe, usable)
    held_out = [e for e in usable if e.digest in kept_out]
    rest = [e for e in usable if e.digest not in kept_out]
    train, validation = rest, []
    plateau = recipe.inner.schedule == "plateau"
    if plateau or (recipe.bilevel and recipe.outer.validation == "held-out"):
        validation = [e for e in rest if _share_of(e.digest[8:]) < recipe.outer.share]
        train = [e for e in rest if _share_of(e.digest[8:]) >= recipe.outer.share]
    elif recipe.bilevel:
        validation = rest
    validation = [e for e in validation if _has_target(recipe.primary, e)]
    _check(recipe, entries, train, validation, held_out)
    return Split(tuple(train), tuple(validation), tuple(held_out))


def split_digest(parts: Split, finder: str) -> str:
    """Hash a split by SHA-256: equal where two runs see the same photographs, parts and labels."""
    lines = [finder, *(" ".join(e.digest + "*" * is_generated(e) for e in part) for part in parts)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_shares(recipe: Recipe, world: World) -> None:
    """Raise UsageError where a minibatch cannot be shared out evenly; before hours of indexing."""
    sizes = {"inner.batch_size": recipe.inner.batch_size}
    if recipe.bilevel and recipe.outer.batch_size is not None:
        sizes["outer.batch_size"] = recipe.outer.batch_size
    for key, size in sizes.items():
        if photographs_per_batch(recipe, size) % world.size:
            whole = ", pairs whole" if recipe.manipulations.pairs else ""
            raise UsageError(f"{key}: {size} examples cannot be divided among {world.size} processes{whole}")


def _counts(recipe: Recipe, entry: IndexEntry) -> bool:
    if entry.kind != "face" and not (entry.kind == "patch" and recipe.data.uses_patches):
        return False
    return all(name in entry.tags for name in recipe.required_tags)


def _has_target(name: str, entry: IndexEntry) -> bool:
    return entry.kind == "face" if name in tasks.MANIPULATION_TASKS else name in entry.tags


def _kept_out(recipe: Recipe, entries: Sequence[IndexEntry]) -> set[str]:
    """Choose the digests of the photographs to measure on.

    Cameras are taken in an order that follows from their names as long as they fit into the share: one that
    made most of the photographs is never kept out. Photographs without a camera are taken by their content.
    """
    cameras: dict[str, list[str]] = {}
    share = recipe.data.held_out
    for entry in entries:
        if recipe.data.held_out_by == "camera" and entry.camera:
            cameras.setdefault(entry.camera, []).append(entry.digest)
    taken: set[str] = set()
    room = share * sum(map(len, cameras.values()))
    for camera in sorted(cameras, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if len(taken) + len(cameras[camera]) <= room:
            taken.update(cameras[camera])
    known = {digest for digests in cameras.values() for digest in digests}
    return taken | {e.digest for e in entries if e.digest not in known and _share_of(e.digest) < share}


def _share_of(digits: str) -> float:
    """Map hexadecimal digits to a place in [0, 1)."""
    return int(digits[:8], 16) / 2**32


def _check(
    recipe: Recipe,
    entries: Sequence[IndexEntry],
    train: Sequence[IndexEntry],
    validation: Sequence[IndexEntry],
    held_out: Sequence[IndexEntry],
) -> None:
    kept_out = len(held_out) + (0 if recipe.outer.validation == "training" else len(validation))
    needed = photographs_per_batch(recipe, recipe.inner.batch_size)
    if len(train) < needed:
        n_incomplete = sum(any(name not in e.tags for name in recipe.required_tags) for e in entries)
        hint = (
            f" ({n_incomplete} more lack some of the tags: data.require_all_tags=false uses them)"
            if n_incomplete
            else ""
        )
        what = "picture" if recipe.supervised else "photograph"
        raise DataError(
            f"{counted(len(train), what)} to learn from ({kept_out} kept out), but a minibatch needs "
            f"{needed}: add {what}s or lower inner.batch_size{hint}"
        )
    if recipe.supervised:
        _check_origins(train, validation, held_out)
    if recipe.bilevel and not validation:
        raise DataError(
            f"no photograph for the outer loop with a label for {recipe.primary}: add photographs, "
            f"raise outer.share, or set outer.enabled=false"
        )


def _check_origins(
    train: Sequence[IndexEntry], validation: Sequence[IndexEntry], held_out: Sequence[IndexEntry]
) -> None:
    """Raise DataError unless both classes are learned and measured."""
    for what, part in (("learn from", train), ("validate on", validation), ("measure on", held_out)):
        n_generated = sum(is_generated(entry) for entry in part)
        if not 0 < n_generated < len(part):
            n = len(part) - n_generated
            raise DataError(f"{n} photographs and {n_generated} AI-generated faces to {what}: add pictures")


def is_generated(entry: IndexEntry) -> bool:
    """Tell an AI-generated picture by its origin."""
    return entry.tags.get(tasks.ORIGIN) == tasks.GENERATED


def photographs_per_batch(recipe: Recipe, batch_size: int) -> int:
    """Count the photographs that fill a minibatch: half as many if each is shown in a pair."""
    return batch_size // 2 if recipe.manipulations.pairs else batch_size
