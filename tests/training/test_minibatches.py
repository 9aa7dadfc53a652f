"""The streams that steps draw from, and the minibatches of each step."""

import dataclasses

import pytest

from bladescan.base.errors import UsageError
from bladescan.tasks.recipe import ManipulationRecipe, OuterRecipe
from bladescan.training.distributed import ALONE, World
from bladescan.training.minibatches import Sampler, Stream
from bladescan.training.photograph_split import split
from tests.training.entries import ALL_TAGS, RECIPE, entry, faces, with_data


def test_a_stream_goes_through_all_photographs_again_and_again_in_new_orders():
    stream = Stream([3, 5, 8, 9], (0, 1))
    turns = [[stream[4 * turn + k] for k in range(4)] for turn in range(5)]
    assert all(sorted(turn) == [3, 5, 8, 9] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
    assert stream[17] == turns[4][1]


def keys(recipe, entries, step, world=ALONE):
    return Sampler(recipe, split(recipe, entries), world).keys(step)


def test_steps_follow_from_the_seed_and_their_number_alone():
    entries = faces(300)
    parts = split(RECIPE, entries)
    first, later = Sampler(RECIPE, parts, ALONE), Sampler(RECIPE, parts, ALONE, first_step=5)
    course = iter(first)
    for _ in range(5):
        next(course)
    assert next(course) == next(iter(later)) == keys(RECIPE, entries, 5)
    assert keys(dataclasses.replace(RECIPE, seed=1), entries, 5) != keys(RECIPE, entries, 5)


def test_every_step_has_a_training_and_a_validation_minibatch():
    drawn = keys(RECIPE, faces(300), 3)
    by_stream = {kind: [k for k in drawn if k[0] == kind] for kind, _, _ in drawn}
    assert sorted(map(len, by_stream.values())) == [16, 16]
    assert len({(kind, draw) for kind, draw, _ in drawn}) == 32
    pairs = dataclasses.replace(RECIPE, manipulations=ManipulationRecipe(pairs=True))
    assert len(keys(pairs, faces(300), 3)) == 16


def test_the_outer_loop_may_leave_steps_out():
    entries = faces(300)
    rarely = dataclasses.replace(RECIPE, outer=OuterRecipe(every=3))
    for step in range(7):
        every, third = keys(RECIPE, entries, step), keys(rarely, entries, step)
        assert third == every if step % 3 == 0 else third == every[:16]


def test_a_share_of_every_minibatch_has_tags():
    entries = [entry(i, tags=ALL_TAGS if i < 30 else {}) for i in range(400)]
    recipe = with_data(dataclasses.replace(RECIPE, outer=OuterRecipe(enabled=False)), tagged=0.5)
    parts = split(recipe, entries)
    sampler = Sampler(recipe, parts, ALONE)
    for step in range(20):
        drawn = [parts.train[i] for _, _, i in sampler.keys(step)]
        assert len(drawn) == 16 and sum(bool(e.tags) for e in drawn) == 8
    assert sampler.steps_per_epoch == len(parts.train) // 16


@pytest.mark.parametrize("tags", [{}, ALL_TAGS])
def test_where_all_or_none_have_tags_the_share_means_nothing(tags):
    recipe = with_data(tagged=0.5)
    drawn = keys(recipe, faces(200, tags=tags), 0)
    assert len(drawn) == 32


def test_processes_share_a_minibatch_out_in_order():
    entries = faces(300)
    whole = keys(RECIPE, entries, 2)
    shares = [keys(RECIPE, entries, 2, World(rank, 2)) for rank in range(2)]
    train = [key for share in shares for key in share[:8]]
    validation = [key for share in shares for key in share[8:]]
    assert [*train, *validation] == whole
    with pytest.raises(UsageError, match="cannot be divided among 3 processes"):
        keys(RECIPE, entries, 2, World(0, 3))
