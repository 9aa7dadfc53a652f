"""Which photographs a step learns from: the split, and endless seeded streams of minibatches.

Everything follows from the seed and the step's number, so a training can go on at any step, and any number
of processes can share a minibatch out.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from bladescan.base.errors import DataError, UsageError
from bladescan.exif.tags import EXIF_TASKS
from bladescan.photographs.index import IndexEntry, PhotographIndex
from bladescan.pretext.examples import Batch, Examples, collate
from bladescan.tasks import pretext_tasks as tasks
from bladescan.tasks.recipe import Recipe
from bladescan.training.distributed import World

_TAGGED, _PLAIN, _VALIDATION = range(3)  # streams
_MANY_STEPS = 2**62


class Split(NamedTuple):
    """Photographs by their use; no photograph is in two parts, unless the recipe validates on training ones.

    Attributes:
        train: learned from (B_tr).
        validation: of the outer loop (B_val); empty without one.
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
    if recipe.bilevel and recipe.outer.validation == "held-out":
        validation = [e for e in rest if _share_of(e.digest[8:]) < recipe.outer.share]
        train = [e for e in rest if _share_of(e.digest[8:]) >= recipe.outer.share]
    elif recipe.bilevel:
        validation = rest
    validation = [e for e in validation if _has_target(recipe.primary, e)]
    _check(recipe, entries, train, validation, held_out)
    return Split(tuple(train), tuple(validation), tuple(held_out))


def split_digest(parts: Split, finder: str) -> str:
    """Hash a split by SHA-256: equal where two runs see the same photographs in the same parts."""
    lines = [finder, *(" ".join(e.digest for e in part) for part in parts)]
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
    if entry.kind != "face" and not (entry.kind == "patch" and recipe.data.patches):
        return False
    return not recipe.data.require_all_tags or all(name in entry.tags for name in EXIF_TASKS)


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
        n_incomplete = sum(any(name not in e.tags for name in EXIF_TASKS) for e in entries)
        hint = (
            f" ({n_incomplete} more lack some of the nine tags: data.require_all_tags=false uses them)"
            if recipe.data.require_all_tags and n_incomplete
            else ""
        )
        raise DataError(
            f"{len(train)} photographs to learn from ({kept_out} kept out), but a minibatch needs {needed}: "
            f"add photographs or lower inner.batch_size{hint}"
        )
    if recipe.bilevel and not validation:
        raise DataError(
            f"no photograph for the outer loop with a label for {recipe.primary}: add photographs, "
            f"raise outer.share, or set outer.enabled=false"
        )


def photographs_per_batch(recipe: Recipe, batch_size: int) -> int:
    """Count the photographs that fill a minibatch: half as many if each is shown in a pair."""
    return batch_size // 2 if recipe.manipulations.pairs else batch_size


class Minibatch(NamedTuple):
    """What one step sees.

    Attributes:
        train: B_tr.
        validation: B_val; None without an outer loop, and in the steps that it leaves out.
    """

    train: Batch
    validation: Batch | None


_Key = tuple[int, int, int]  # stream, draw, photograph


class Stream:
    """A seeded endless sequence of photographs: one random order after the other.

    Args:
        positions: of the photographs.
        seed: of the orders.
    """

    def __init__(self, positions: Sequence[int], seed: tuple[int, ...]) -> None:
        self._positions, self._seed = np.asarray(positions), seed
        self._order = functools.lru_cache(maxsize=4)(self._shuffled)

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, draw: int) -> int:
        """Return the photograph of the ``draw``-th draw."""
        turn, place = divmod(draw, len(self._positions))
        return int(self._order(turn)[place])

    def _shuffled(self, turn: int) -> NDArray[np.int64]:
        return np.random.default_rng((*self._seed, turn)).permutation(self._positions)


class Sampler:
    """The keys of each step's examples, from any step on: this process's share of them.

    Args:
        recipe: sizes and seed.
        parts: the split photographs.
        world: the processes.
        first_step: where to begin.
    """

    def __init__(self, recipe: Recipe, parts: Split, world: World, first_step: int = 0) -> None:
        self._world, self.first_step, self._outer_every = world, first_step, recipe.outer.every
        n = photographs_per_batch(recipe, recipe.inner.batch_size)
        self.steps_per_epoch = len(parts.train) // n
        tagged = [i for i, e in enumerate(parts.train) if e.tags]
        plain = [i for i, e in enumerate(parts.train) if not e.tags]
        n_tagged = round(recipe.data.tagged * n)
        if not n_tagged or not tagged:
            tagged, plain, n_tagged = [], list(range(len(parts.train))), 0
        elif not plain:
            n_tagged = n
        n_validation = photographs_per_batch(recipe, recipe.outer.batch_size or recipe.inner.batch_size)
        self._streams = [
            (kind, Stream(positions, (recipe.seed, kind)), count)
            for kind, positions, count in (
                (_TAGGED, tagged, n_tagged),
                (_PLAIN, plain, n - n_tagged),
                (_VALIDATION, range(len(parts.validation)), n_validation if parts.validation else 0),
            )
            if count
        ]

    def __iter__(self) -> Iterator[list[_Key]]:
        for step in range(self.first_step, _MANY_STEPS):
            yield self.keys(step)

    def keys(self, step: int) -> list[_Key]:
        """Make the examples of one step."""
        drawn = {True: list[_Key](), False: list[_Key]()}
        for kind, stream, count in self._streams:
            if kind == _VALIDATION and step % self._outer_every:
                continue
            draws = range(step * count, (step + 1) * count)
            drawn[kind == _VALIDATION] += [(kind, draw, stream[draw]) for draw in draws]
        return [*self._world.share(drawn[False]), *self._world.share(drawn[True])]


class _Drawn(Dataset[tuple[int, Batch]]):
    """Examples of all streams."""

    def __init__(self, examples: dict[int, Examples]) -> None:
        self._examples = examples

    def __getitem__(self, key: _Key) -> tuple[int, Batch]:
        kind, draw, i = key
        return kind, self._examples[kind][draw, i]


def minibatches(
    recipe: Recipe, index: PhotographIndex, parts: Split, sampler: Sampler, *, pin: bool = False
) -> Iterator[Minibatch]:
    """Yield the minibatches of the sampler's steps without end, prepared by ``recipe.workers`` processes."""
    train = [e.digest for e in parts.train]
    validation = [e.digest for e in parts.validation]
    drawn = _Drawn(
        {
            kind: examples(recipe, index, digests, kind)
            for kind, digests in ((_TAGGED, train), (_PLAIN, train), (_VALIDATION, validation))
        }
    )
    loader: DataLoader[Any] = DataLoader(
        drawn,
        batch_sampler=sampler,
        num_workers=recipe.workers,
        collate_fn=_assembled,
        worker_init_fn=_quiet_worker,
        pin_memory=pin,
    )
    return _one_line_errors(loader)


def _one_line_errors(loader: Iterable[Minibatch]) -> Iterator[Minibatch]:
    """Cut a loading process's error down to its message, the last line of the traceback in its text."""
    try:
        yield from loader
    except DataError as exc:
        last = str(exc).strip().splitlines()[-1]
        raise DataError(last.removeprefix(f"{DataError.__module__}.{DataError.__name__}: ")) from exc


def in_order(data: Examples, batch_size: int, n_workers: int) -> Iterator[Batch]:
    """Yield all examples once, in the order of the photographs, as the first draw has them."""
    keys = [
        [(0, i) for i in range(start, min(start + batch_size, len(data)))]
        for start in range(0, len(data), batch_size)
    ]
    return iter(
        DataLoader(
            data, batch_sampler=keys, num_workers=n_workers, collate_fn=collate, worker_init_fn=_quiet_worker
        )
    )


def examples(recipe: Recipe, index: PhotographIndex, digests: Sequence[str], stream: int = 0) -> Examples:
    """Make the examples of some photographs, seeded by the recipe and a stream's number."""
    seed = int(np.random.SeedSequence((recipe.seed, stream)).generate_state(1)[0])
    return Examples(index, digests, recipe.manipulations, recipe.augmentation, seed)


def _assembled(items: Sequence[tuple[int, Batch]]) -> Minibatch:
    train = [batch for kind, batch in items if kind != _VALIDATION]
    validation = [batch for kind, batch in items if kind == _VALIDATION]
    return Minibatch(collate(train), collate(validation) if validation else None)


def _quiet_worker(_: int) -> None:
    # One process per worker is the parallelism; OpenCV's own threads would fight over the same cores.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
