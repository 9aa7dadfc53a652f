"""Endless seeded streams of minibatches: the photographs that each step learns from.

Everything follows from the seed and the step's number, so a training can go on at any step, and any number
of processes can share a minibatch out.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from bladescan.base.errors import DataError
from bladescan.photographs.index import IndexEntry, PhotographIndex
from bladescan.pretext.examples import Batch, Examples, collate
from bladescan.tasks.recipe import Recipe
from bladescan.training.distributed import World
from bladescan.training.photograph_split import Split, is_generated, photographs_per_batch

_CHOSEN, _OTHERS, _VALIDATION = range(3)  # streams; the first is of what has a share of its own

_MANY_STEPS = 2**62


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
        if recipe.data.generated:
            share, told = recipe.data.generated, is_generated
        else:
            share, told = recipe.data.tagged, _has_tags
        chosen = [i for i, e in enumerate(parts.train) if told(e)]
        others = [i for i, e in enumerate(parts.train) if not told(e)]
        n_chosen = round(share * n)
        if not n_chosen or not chosen:
            chosen, others, n_chosen = [], list(range(len(parts.train))), 0
        elif not others:
            n_chosen = n
        n_validation = photographs_per_batch(recipe, recipe.outer.batch_size or recipe.inner.batch_size)
        self._streams = [
            (kind, Stream(positions, (recipe.seed, kind)), count)
            for kind, positions, count in (
                (_CHOSEN, chosen, n_chosen),
                (_OTHERS, others, n - n_chosen),
                (_VALIDATION, range(len(parts.validation)), n_validation if recipe.bilevel else 0),
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


def _has_tags(entry: IndexEntry) -> bool:
    return bool(entry.tags)


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
            for kind, digests in ((_CHOSEN, train), (_OTHERS, train), (_VALIDATION, validation))
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
