"""Covariances by a naive loop; square roots by an eigendecomposition."""

import numpy as np
import torch

from bladescan.networks.covariance_pooling import CovariancePooling, covariance, newton_schulz


def positive(n, c, seed=0):
    x = torch.randn(n, c, 4 * c, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x @ x.transpose(1, 2) / (4 * c)


def test_the_covariance_is_numpys():
    x = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for got, one in zip(covariance(x), x, strict=True):
        np.testing.assert_allclose(got, np.cov(one.flatten(1), bias=True), atol=1e-12)


def test_the_iterations_come_to_the_square_root_of_an_eigendecomposition():
    matrices = positive(3, 8)
    values, vectors = np.linalg.eigh(matrices.numpy())
    root = np.einsum("nij,nj,nkj->nik", vectors, np.sqrt(values), vectors)
    np.testing.assert_allclose(newton_schulz(matrices, 30), root, atol=1e-8)
    errors = [np.abs(newton_schulz(matrices, k).numpy() - root).max() for k in (1, 3, 5, 10)]
    assert errors == sorted(errors, reverse=True)


def test_pooling_is_the_upper_triangle_and_does_not_depend_on_where_things_are():
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    pool = CovariancePooling(4)
    described = pool(x)
    whole = newton_schulz(covariance(x) + 1e-3 * torch.eye(4))
    naive = [[whole[n, i, j] for i in range(4) for j in range(i, 4)] for n in range(2)]
    torch.testing.assert_close(described, torch.tensor(naive))
    shuffled = x.flatten(2)[:, :, torch.randperm(36, generator=torch.Generator().manual_seed(1))].view_as(x)
    torch.testing.assert_close(pool(shuffled), described, atol=1e-4, rtol=1e-4)


def test_a_flat_map_has_a_finite_description_and_gradient():
    x = torch.zeros(1, 4, 6, 6, requires_grad=True)
    CovariancePooling(4)(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_half_precision_around_it_leaves_it_exact():
    x = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    pool = CovariancePooling(4)
    with torch.autocast("cpu", torch.bfloat16):
        inside = pool(x)
    assert torch.equal(inside, pool(x))
