"""Variants of crops keep their size, give the same again, and take away what they say they do."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import UnknownNameError
from bladescan.base.records import CROP_SIZE
from bladescan.evaluation.degradations import (
    LARGEST_MATCH,
    VARIANTS,
    compressed_sizes,
    degrade,
    match,
    match_side,
)


@pytest.fixture(scope="module")
def portrait(samples) -> np.ndarray:
    with Image.open(samples / "portrait.jpg") as image:
        return np.asarray(image.convert("RGB").resize((CROP_SIZE, CROP_SIZE)))


@pytest.fixture(scope="module")
def crops(portrait) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, portrait.shape, dtype=np.uint8)
    return np.stack([portrait, noise])


def roughness(crops: np.ndarray) -> float:
    """Mean squared difference between neighbouring pixels."""
    return float((np.diff(crops.astype(float), axis=2) ** 2).mean())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_keeps_the_shape_and_gives_the_same_again(crops, variant):
    before = crops.copy()
    first = degrade(crops, variant)
    assert first.shape == crops.shape and first.dtype == np.uint8
    assert np.array_equal(first, degrade(crops, variant))
    assert np.array_equal(crops, before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_crop_does_not_depend_on_its_neighbours(crops, variant):
    assert np.array_equal(degrade(crops, variant)[1:], degrade(crops[1:], variant))


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_crop_stays_no_crop(crops, variant):
    assert degrade(crops[:0], variant).shape == (0, CROP_SIZE, CROP_SIZE, 3)


def test_the_first_variant_changes_nothing(crops):
    assert next(iter(VARIANTS)) == "none"
    assert np.array_equal(degrade(crops, "none"), crops)


def test_a_lower_quality_leaves_more_error(crops):
    errors = [
        np.abs(degrade(crops, f"jpeg-{quality}").astype(int) - crops).mean() for quality in (95, 85, 75)
    ]
    assert 0 < errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("variant", ["half", "blur", "social"])
def test_rescaling_and_blur_take_detail_away_and_keep_the_mean(crops, variant):
    changed = degrade(crops, variant)
    assert roughness(changed) < 0.7 * roughness(crops)
    np.testing.assert_allclose(changed.mean((1, 2, 3)), crops.mean((1, 2, 3)), atol=2)


def test_a_half_of_stripes_one_pixel_wide_is_their_mean():
    stripes = np.zeros((1, CROP_SIZE, CROP_SIZE, 3), np.uint8)
    stripes[:, :, ::2] = 200
    inner = degrade(stripes, "half")[0, 8:-8, 8:-8]
    np.testing.assert_allclose(inner, 100, atol=2)


def test_a_flat_crop_passes_through_everything():
    flat = np.full((1, CROP_SIZE, CROP_SIZE, 3), 120, np.uint8)
    for variant in VARIANTS:
        np.testing.assert_allclose(degrade(flat, variant), 120, atol=1)
    np.testing.assert_allclose(match(flat, 64), 120, atol=1)


def test_matching_brings_a_sharp_crop_and_its_small_copy_together(portrait):
    with_detail = Image.fromarray(portrait)
    small = with_detail.resize((80, 80), Image.Resampling.BICUBIC).resize(with_detail.size)
    pair = np.stack([portrait, np.asarray(small)])
    sharp, soft = compressed_sizes(pair)
    assert sharp > 1.4 * soft
    sharp, soft = compressed_sizes(match(pair, 80))
    assert sharp == pytest.approx(soft, rel=0.1)


def test_the_side_to_match_is_the_tenth_percentile_within_limits():
    assert match_side([np.arange(100, 201)]) == 110
    assert match_side([[10, 20, 30]]) == 64
    assert match_side([[1000, 2000]]) == LARGEST_MATCH < CROP_SIZE


def test_a_small_set_of_small_faces_decides_the_side_among_many_large_ones():
    assert match_side([np.full(1000, 900.0), np.full(5, 90.0)]) == 90


def test_matching_takes_the_finest_detail_from_large_faces_too(crops):
    assert roughness(match(crops, match_side([[1000, 2000]]))) < 0.7 * roughness(crops)


def test_matching_in_place_gives_the_same(crops):
    changed = crops.copy()
    assert match(changed, 100, out=changed) is changed
    assert np.array_equal(changed, match(crops, 100))


def test_a_variant_that_is_not_there_lists_those_that_are(crops):
    with pytest.raises(UnknownNameError, match="Did you mean 'jpeg-85'"):
        degrade(crops, "jpeg-86")


def test_faces_that_are_cut_out_in_several_ways_are_degraded_alike(crops):
    twice = np.stack([crops, crops[::-1]], 1)
    found = degrade(twice, "jpeg-75")
    np.testing.assert_array_equal(found[:, 0], degrade(crops, "jpeg-75"))
    np.testing.assert_array_equal(found[:, 1], degrade(crops[::-1], "jpeg-75"))
    match(twice, 112, out=twice)
    np.testing.assert_array_equal(twice[:, 1], match(crops[::-1], 112))
