"""Regions of a face: dense landmarks make those of five points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bladescan.pretext import face_regions as r
from tests.pretext.landmarks import LANDMARKS, dense


def regions(landmarks):
    eyes = (r.eye_region(landmarks, 0), r.eye_region(landmarks, 1))
    return (r.mouth_region(landmarks), *eyes, r.nose_region(landmarks), r.face_region(landmarks))


def reach(points, region):
    """1 on the border of the region, less inside."""
    return np.hypot(
        (points[:, 0] - region.x) / region.half_width, (points[:, 1] - region.y) / region.half_height
    )


def test_five_points_make_the_regions_they_always_made():
    left, right, tip, *corners = LANDMARKS.astype(np.float64)
    eyes, mouth = (left + right) / 2, sum(corners) / 2
    scale = max(np.hypot(*(right - left)), 0.95 * np.hypot(*(mouth - eyes)))
    width = corners[1][0] - corners[0][0]
    expected = (
        (*mouth, width / 2 + 0.2 * scale, 0.33 * scale),
        (*left, 0.36 * scale, 0.24 * scale),
        (*right, 0.36 * scale, 0.24 * scale),
        (tip[0], tip[1] - 0.08 * scale, 0.36 * scale, 0.36 * scale),
        (*LANDMARKS.mean(0), 1.05 * scale, 1.35 * scale),
    )
    assert np.allclose(regions(LANDMARKS), expected, rtol=1e-6)
    assert r.five_points(LANDMARKS) is LANDMARKS


@pytest.mark.parametrize("n_points", r.LAYOUTS)
def test_dense_landmarks_hold_the_five(n_points):
    assert np.allclose(r.five_points(dense(n_points)), LANDMARKS, atol=1e-3)


@pytest.mark.parametrize("n_points", r.LAYOUTS)
def test_dense_regions_of_an_average_face_are_near_those_of_five_points(n_points):
    scale = r.face_scale(LANDMARKS)
    for from_dense, from_five in zip(regions(dense(n_points)), regions(LANDMARKS), strict=True):
        assert np.allclose(from_dense[:2], from_five[:2], atol=0.1 * scale)
        assert np.allclose(from_dense[2:], from_five[2:], rtol=0.15)


@pytest.mark.parametrize("n_points", r.LAYOUTS)
@pytest.mark.parametrize("stretch", [1.0, 1.8], ids=["closed", "laughing"])
def test_dense_regions_contain_their_points_and_spare_the_others(n_points, stretch):
    points, layout = dense(n_points), r.LAYOUTS[n_points]
    lips = points[layout.mouth]
    points[layout.mouth] = lips.mean(0) + (lips - lips.mean(0)) * (1, stretch)
    mouth, left, right, nose, _ = regions(points)
    assert reach(points[layout.mouth], mouth).max() < 1
    for eye, region in zip(layout.eyes, (left, right), strict=True):
        assert reach(points[eye], region).max() < 1
        assert reach(points[layout.mouth], region).min() > 1
    assert reach(points[layout.nose][-5:], nose).max() < 1
    assert reach(LANDMARKS[:2], nose).min() > 1  # and the eyes are left to the eyes


def test_an_open_mouth_makes_its_region_higher_which_five_points_cannot_tell():
    points = dense(68)
    lips = slice(48, 68)
    points[lips, 1] = points[lips, 1].mean() + (points[lips, 1] - points[lips, 1].mean()) * 2
    grown = r.mouth_region(points).half_height - r.mouth_region(dense(68)).half_height
    assert grown == pytest.approx(0.165 * r.face_scale(points), rel=0.05)


@given(st.integers(2, 20), st.integers(0, 2**32 - 1))
def test_an_ellipse_around_points_contains_them_with_the_margin_it_was_given(n, seed):
    points = np.random.default_rng(seed).normal(0, 50, (n, 2)).astype(np.float32)
    region = r._around(points, 3.0)
    assert reach(points, region).max() <= 1 + 1e-5
    assert region.half_width >= np.ptp(points[:, 0]) / 2 + 3 - 1e-3
