"""The split, and the streams that steps draw from."""

import dataclasses
import hashlib

import pytest

from bladescan.base.errors import DataError, UsageError
from bladescan.exif.tags import EXIF_TASKS
from bladescan.photographs.index import IndexEntry
from bladescan.tasks.pretext_tasks import TASKS
from bladescan.tasks.recipe import DataRecipe, InnerRecipe, ManipulationRecipe, OuterRecipe, Recipe
from bladescan.training.distributed import ALONE, World
from bladescan.training.minibatches import Sampler, Stream, check_shares, split

ALL_TAGS = {
    name: 1.0 if TASKS[name].kind.value == "ordinal" else TASKS[name].classes[0] for name in EXIF_TASKS
}
RECIPE = Recipe(inner=InnerRecipe(batch_size=16), data=DataRecipe(held_out=0.2))


def entry(i, kind="face", tags=None, camera=""):
    return IndexEntry(hashlib.sha256(str(i).encode()).hexdigest(), kind, tags or {}, camera, None)


def faces(n, n_cameras=10, tags=ALL_TAGS):
    return [entry(i, tags=tags, camera=f"camera {i % n_cameras}") for i in range(n)]


def digests(entries):
    return {e.digest for e in entries}


def with_data(recipe=RECIPE, **changes):
    return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, **changes))


def test_no_photograph_is_in_two_parts_and_none_is_lost():
    entries = faces(400, n_cameras=100)
    parts = split(RECIPE, entries)
    whole = [digests(part) for part in parts]
    assert sum(map(len, whole)) == len(set.union(*whole)) == 400
    assert all(part for part in whole)


def test_the_split_follows_from_the_photographs_not_from_their_order():
    entries = faces(100)
    assert split(RECIPE, entries) == split(RECIPE, entries[::-1])
    by_content = with_data(held_out_by="content")
    fewer, more = (split(by_content, some) for some in (entries[:80], entries))
    assert digests(fewer.held_out) <= digests(more.held_out)


def test_no_camera_model_is_on_both_sides():
    parts = split(RECIPE, faces(600, n_cameras=50))
    seen = {e.camera for e in (*parts.train, *parts.validation)}
    kept = {e.camera for e in parts.held_out}
    assert seen and kept and not seen & kept
    by_content = split(with_data(held_out_by="content"), faces(600, n_cameras=50))
    assert {e.camera for e in by_content.train} & {e.camera for e in by_content.held_out}


def test_a_camera_that_made_most_photographs_is_never_kept_out():
    one = [entry(i, tags=ALL_TAGS, camera="apple iphone 5") for i in range(200)]
    assert split(RECIPE, one).held_out == ()
    many = [*one, *(entry(f"o{i}", tags=ALL_TAGS, camera=f"other {i}") for i in range(100))]
    kept = split(RECIPE, many).held_out
    assert len(kept) == 60 and {e.camera for e in kept} <= {e.camera for e in many} - {"apple iphone 5"}


def test_validation_photographs_are_kept_out_of_training_unless_the_recipe_takes_them_from_it():
    entries = faces(300)
    parts = split(RECIPE, entries)
    assert parts.validation and not digests(parts.validation) & digests(parts.train)
    released = dataclasses.replace(RECIPE, outer=OuterRecipe(validation="training"))
    assert digests(split(released, entries).validation) == digests(split(released, entries).train)
    equal = dataclasses.replace(RECIPE, outer=OuterRecipe(enabled=False))
    assert split(equal, entries).validation == ()


def test_validation_photographs_can_answer_the_primary_task():
    entries = [entry(i, "patch" if i % 2 else "face", ALL_TAGS if i % 3 else {}) for i in range(600)]
    recipe = with_data(patches=True)
    assert {e.kind for e in split(recipe, entries).validation} == {"face"}
    exif = dataclasses.replace(recipe, primary="make")
    found = split(exif, entries).validation
    assert {e.kind for e in found} == {"face", "patch"} and all(e.tags for e in found)


def test_patches_incomplete_and_useless_photographs_come_in_only_where_asked():
    some = {"make": "Canon"}
    entries = [*faces(50), entry("p", "patch", ALL_TAGS), entry("s", tags=some), entry("n", "none")]

    def used(recipe):
        return set.union(*map(digests, split(recipe, entries)))

    complete, patch, incomplete, useless = digests(faces(50)), *(e.digest for e in entries[50:])
    assert used(RECIPE) == complete | {incomplete}
    assert used(with_data(patches=True)) == complete | {patch, incomplete}
    assert used(with_data(require_all_tags=True)) == complete
    assert useless not in used(with_data(patches=True))


def test_too_few_photographs_say_how_many_and_what_would_help():
    with pytest.raises(
        DataError, match=r"photographs to learn from \(.* kept out\), but a minibatch needs 16"
    ):
        split(RECIPE, faces(10))
    incomplete = with_data(require_all_tags=True)
    with pytest.raises(DataError, match=r"30 more lack some.*data\.require_all_tags=false"):
        split(incomplete, faces(30, tags={"make": "Canon"}))


def test_an_outer_loop_without_photographs_says_so():
    recipe = dataclasses.replace(RECIPE, primary="make")
    with pytest.raises(DataError, match="no photograph for the outer loop with a label for make"):
        split(recipe, faces(100, tags={"aperture": 2.0}))


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


def test_sizes_that_cannot_be_shared_are_found_before_the_work():
    check_shares(RECIPE, World(0, 8))
    with pytest.raises(UsageError, match="inner.batch_size: 16 examples cannot be divided among 3 processes"):
        check_shares(RECIPE, World(0, 3))
    odd = dataclasses.replace(RECIPE, outer=OuterRecipe(batch_size=6))
    with pytest.raises(UsageError, match="outer.batch_size: 6 examples cannot be divided among 4"):
        check_shares(odd, World(0, 4))
    pairs = dataclasses.replace(RECIPE, manipulations=ManipulationRecipe(pairs=True))
    with pytest.raises(UsageError, match="16 examples cannot be divided among 16 processes, pairs whole"):
        check_shares(pairs, World(0, 16))
