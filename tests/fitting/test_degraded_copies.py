import cv2
import numpy as np

from bladescan.fitting.degraded_copies import degraded_copies


def textured(n, side=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def test_the_same_seed_gives_the_same_copies_and_leaves_the_crops_alone():
    crops = textured(6)
    before = crops.copy()
    first, second = (degraded_copies(crops, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second) and np.array_equal(crops, before)
    assert not np.array_equal(first, degraded_copies(crops, np.random.default_rng(4)))


def test_copies_have_less_fine_detail_than_the_crops():
    crops = textured(40)
    copies = degraded_copies(crops, np.random.default_rng(0))
    detail = [np.array([cv2.Laplacian(x, cv2.CV_64F).var() for x in part]) for part in (crops, copies)]
    assert (detail[1] < 1.02 * detail[0]).all()
    assert np.median(detail[1]) < 0.5 * np.median(detail[0])


def test_colours_stay_where_they_are():
    crops = np.zeros((20, 64, 64, 3), np.uint8)
    crops[..., 0] = 200  # red
    means = degraded_copies(crops, np.random.default_rng(0)).mean((1, 2))
    np.testing.assert_allclose(means, np.broadcast_to([200, 0, 0], means.shape), atol=4)


def test_some_copies_are_mirrored():
    crops = np.zeros((40, 64, 64, 3), np.uint8)
    crops[:, :, 32:] = 255
    left = degraded_copies(crops, np.random.default_rng(0))[:, :, :32].mean((1, 2, 3)) > 127
    assert 8 < left.sum() < 32


def test_no_crop_gives_no_copy():
    assert degraded_copies(textured(0), np.random.default_rng(0)).shape == (0, 64, 64, 3)
