"""Boxes are of one face where they cover the same part of the picture."""

from __future__ import annotations

import numpy as np
import pytest

from bladescan.base.places import are_one, overlap


@pytest.mark.parametrize("seed", range(8))
def test_the_overlap_is_that_of_the_squares_they_cover(seed):
    corners = np.random.default_rng(seed).integers(0, 21, (2, 2, 2))
    (a0, a1), (b0, b1) = (np.sort(box, axis=0) for box in corners)
    grid = np.zeros((2, 20, 20), bool)
    grid[0, a0[0] : a1[0], a0[1] : a1[1]] = grid[1, b0[0] : b1[0], b0[1] : b1[1]] = True
    either = (grid[0] | grid[1]).sum()
    expected = (grid[0] & grid[1]).sum() / either if either else 0.0
    assert overlap((*a0 / 20, *a1 / 20), (*b0 / 20, *b1 / 20)) == pytest.approx(expected)


def test_where_no_box_is_known_the_pictures_are_the_faces():
    box = (0.0, 0.0, 0.5, 0.5)
    assert are_one(None, None) and not are_one(box, None) and not are_one(None, box)
    assert are_one(box, (0.0, 0.0, 0.5, 0.3)) and not are_one(box, (0.0, 0.0, 0.5, 0.2))
