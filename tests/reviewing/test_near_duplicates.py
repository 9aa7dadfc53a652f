"""Which faces count as copies of one picture."""

from __future__ import annotations

import random

import pytest

from bladescan.images.likeness import distance
from bladescan.reviewing.near_duplicates import MOST_BITS, Look, leaders

PLACE = (0.2, 0.2, 0.6, 0.7)


def look(picture: int | None, crop: int | None = 5, place=PLACE, content=("", 0)) -> Look:
    return Look(picture, crop, place, content)


def with_bits(hash: int, n: int, seed: int) -> int:
    for bit in random.Random(seed).sample(range(64), n):
        hash ^= 1 << bit
    return hash


@pytest.mark.parametrize("n_bits", range(9))
def test_pictures_are_copies_up_to_so_many_bits_wherever_they_lie(n_bits):
    for seed in range(40):
        first = random.Random(seed).getrandbits(64)
        other = with_bits(first, n_bits, seed + 1)
        assert distance(first, other) == n_bits
        assert list(leaders([look(first), look(other)])) == ([0, 0] if n_bits <= MOST_BITS else [0, 1])


def test_a_copy_follows_the_first_and_not_the_copy_before_it():
    steps = [0, 0b1111, 0b1111_1111]  # the third is a copy of the second alone
    assert list(leaders([look(steps[0]), look(steps[1]), look(steps[2])])) == [0, 0, 2]


def test_two_faces_of_one_picture_and_other_people_in_it_are_not_one():
    beside = (0.65, 0.2, 0.95, 0.7)
    assert list(leaders([look(7), look(7, place=beside)])) == [0, 1]
    assert list(leaders([look(7, crop=0), look(7, crop=(1 << 13) - 1)])) == [0, 1]
    assert list(leaders([look(7), look(7, crop=None, place=None)])) == [0, 1]
    assert list(leaders([look(7, place=None), look(7, place=None)])) == [0, 0]


def test_equal_files_are_copies_even_if_nobody_could_see_them():
    unseen = [look(None, None, None, content=(digest, -1)) for digest in ("a", "b", "a", "", "")]
    assert list(leaders(unseen)) == [0, 1, 0, 3, 4]


def test_forty_copies_and_many_strangers_are_found_apart():
    rng = random.Random(1)
    strangers = [look(rng.getrandbits(64)) for _ in range(2000)]
    copies = [look(with_bits(3, rng.randrange(MOST_BITS + 1), i)) for i in range(40)]
    found = list(leaders([look(3), *strangers, *copies]))
    assert found[:2001] == list(range(2001)) and found[2001:] == [0] * 40
