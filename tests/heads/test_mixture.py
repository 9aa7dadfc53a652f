import math

import numpy as np
import pytest

from bladescan.heads.mixture import sample
from tests.tiny import tiny_mixture


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
def test_the_log_likelihood_meets_a_naive_loop(covariance):
    mixture = tiny_mixture(covariance, d=4)
    x = np.random.default_rng(0).normal(size=(5, 4))
    for row, score in zip(x, mixture.score_samples(x), strict=True):
        density = 0.0
        for k in range(3):
            factor = mixture.precisions_cholesky_[k % len(mixture.precisions_cholesky_)].double().numpy()
            factor = np.diag(factor) if factor.ndim == 1 else factor
            precision = factor @ factor.T
            centred = row - mixture.means_[k].double().numpy()
            norm = math.sqrt(np.linalg.det(precision) / (2 * math.pi) ** 4)
            weight = float(mixture.weights_[k].double())
            density += weight * norm * math.exp(-0.5 * centred @ precision @ centred)
        assert score == pytest.approx(math.log(density), rel=1e-9)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
def test_samples_have_the_mixtures_mean_and_covariance(covariance):
    mixture = tiny_mixture(covariance, d=3)
    drawn = sample(mixture, 40_000, np.random.default_rng(0))
    weights, means = mixture.weights_.double().numpy(), mixture.means_.double().numpy()
    np.testing.assert_allclose(drawn.mean(0), weights @ means, atol=0.02)
    expected = np.zeros((3, 3))
    for k in range(3):
        factor = mixture.precisions_cholesky_[k % len(mixture.precisions_cholesky_)].double().numpy()
        factor = np.diag(factor) if factor.ndim == 1 else factor
        off = means[k] - weights @ means
        expected += weights[k] * (np.linalg.inv(factor @ factor.T) + np.outer(off, off))
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.02)


def test_an_empty_batch_has_no_scores():
    assert tiny_mixture(d=4).score_samples(np.empty((0, 4))).shape == (0,)
