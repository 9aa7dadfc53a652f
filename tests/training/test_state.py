"""The state of a training: levels of tags that are aligned instead of ranked."""

import dataclasses
import math

import pytest
import torch

from bladescan.base.errors import DataError
from bladescan.tasks.recipe import LossRecipe, OrdinalRecipe
from bladescan.training.distributed import ALONE
from bladescan.training.loop import as_classes
from bladescan.training.state import new_training_state
from tests.training.tiny import ORDINAL, TINY


def test_ties_move_the_levels_but_never_empty_them():
    """ISO 100 in seventy photographs, 200 and 400 in fifteen each: no cut falls between equal values."""
    recipe = dataclasses.replace(TINY, losses=LossRecipe(ordinal=OrdinalRecipe(target="level")))
    values = [100.0] * 70 + [200.0] * 15 + [400.0] * 15
    tags = [dict.fromkeys(ORDINAL, value) for value in values]
    edges = new_training_state(recipe, ALONE.device, tags).level_edges["iso_speed"]
    levels = as_classes(torch.tensor([100.0, 200.0, 400.0], dtype=torch.float64), edges).tolist()
    assert levels[0] == 0 and levels[0] < levels[1] <= levels[2]


def test_a_tag_that_is_aligned_has_its_terciles_as_classes():
    aligned = LossRecipe(ordinal=OrdinalRecipe(target="level"))
    recipe = dataclasses.replace(TINY, losses=aligned)
    state = new_training_state(
        recipe,
        ALONE.device,
        [dict.fromkeys(ORDINAL, v) for v in range(9)],
    )
    edges = state.level_edges["iso_speed"]
    assert as_classes(torch.tensor([0.0, 2.0, 3.0, 5.0, 6.0, 99.0, math.nan]), edges).tolist() == [
        0,
        0,
        1,
        1,
        2,
        2,
        -1,
    ]
    with pytest.raises(DataError, match="all photographs have the same iso_speed"):
        new_training_state(recipe, ALONE.device)
