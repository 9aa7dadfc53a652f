"""The SRM kernels against the words of their paper, and the residuals against a naive loop."""

import pytest
import torch

from bladescan.networks.srm import N_KERNELS, Residuals, srm_kernels


def test_there_are_thirty_different_kernels_and_a_flat_image_has_no_residual():
    kernels = srm_kernels()
    assert kernels.shape == (N_KERNELS, 5, 5) == (8 + 4 + 8 + 5 + 5, 5, 5)
    assert len({tuple(kernel.flatten().tolist()) for kernel in kernels}) == N_KERNELS
    assert (kernels.sum((1, 2)) == 0).all()


@pytest.mark.parametrize(("first", "last", "degree"), [(8, 12, 1), (12, 20, 2), (20, 30, 1)])
def test_what_a_kernel_predicts_exactly_leaves_nothing(first, last, degree):
    # A kernel of order k + 1 cancels every polynomial of degree k; a square or an edge a plane at least.
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    powers = [(a, b) for a in range(degree + 1) for b in range(degree + 1 - a)]
    for a, b in powers:
        assert ((srm_kernels()[first:last] * y**a * x**b).sum((1, 2)) == 0).all(), (a, b)


def test_the_directions_are_all_eight():
    first = srm_kernels()[:8]
    places = {tuple((kernel == 1).nonzero()[0].tolist()) for kernel in first}
    assert places == {(2 + dy, 2 + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} - {(2, 2)}
    # The upper half of the square, then turned against the clock: left, lower, right.
    for start, reach in ((21, 1), (26, 2)):
        upper, left, lower, right = srm_kernels()[start : start + 4]
        assert not upper[3:].any() and upper[2 - reach : 3].any(1).sum() == reach + 1
        assert torch.equal(lower, upper.flip(0)) and torch.equal(left, upper.T)
        assert torch.equal(right, left.flip(1))


def test_residuals_are_those_of_a_naive_loop():
    levels = torch.randint(0, 256, (2, 3, 8, 7), generator=torch.Generator().manual_seed(0)).float()
    got = Residuals(6.0)(levels)
    kernels = srm_kernels()
    assert got.shape == (2, 90, 4, 3)
    for colour in range(3):
        for i, kernel in enumerate(kernels):
            for y in range(4):
                for x in range(3):
                    window = levels[:, colour, y : y + 5, x : x + 5]
                    expected = (window * kernel).sum((1, 2)) / kernel[2, 2].abs()
                    torch.testing.assert_close(
                        got[:, 30 * colour + i, y, x], expected.clamp(-6, 6), atol=1e-5, rtol=0
                    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_filters_exactly(dtype):
    levels = torch.randint(0, 256, (1, 3, 40, 40), generator=torch.Generator().manual_seed(0)).float()
    residuals = Residuals(10.0)
    with torch.autocast("cpu", dtype):
        lower = residuals(levels)
    # Sums up to 10 * 12 are whole numbers that both hold; larger ones are truncated.
    torch.testing.assert_close(lower.float(), residuals(levels), atol=10 * torch.finfo(dtype).eps, rtol=0)
