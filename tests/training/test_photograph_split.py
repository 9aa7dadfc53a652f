"""The split of the photographs: no photograph, and where asked no camera, in two parts."""

import dataclasses

import pytest

from bladescan.base.errors import DataError, UsageError
from bladescan.tasks.recipe import ManipulationRecipe, OuterRecipe
from bladescan.training.distributed import World
from bladescan.training.photograph_split import check_shares, split
from tests.training.entries import ALL_TAGS, RECIPE, entry, faces, with_data


def digests(entries):
    return {e.digest for e in entries}


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
