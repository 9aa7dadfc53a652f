"""How the channels of a feature map vary together, instead of their means.

A square root brings covariances, whose large eigenvalues drown the others, nearer to each other. It is
iterated by matrix products, which a GPU and every runtime of ONNX have; an eigendecomposition they have not.

References:
    Li et al., "Towards Faster Training of Global Covariance Pooling Networks by Iterative Matrix Square Root
    Normalization", CVPR 2018 (iSQRT-COV).
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

ITERATIONS = 5
"""The paper's: eigenvalues that are small beside the trace come out too small, which does no harm here."""

_RIDGE = 1e-3
"""Added to every variance: a flat tile has none, and what has no trace cannot be divided by it."""


def covariance(x: Tensor) -> Tensor:
    """Compute the covariance of channels over places: ``[n, c, h, w]`` to ``[n, c, c]``."""
    flat = x.flatten(2)
    centred = flat - flat.mean(2, keepdim=True)
    return centred @ centred.transpose(1, 2) / flat.shape[2]


def newton_schulz(matrix: Tensor, n_iterations: int = ITERATIONS) -> Tensor:
    r"""Compute square roots of symmetric positive definite matrices by coupled Newton-Schulz iterations.

    .. math:: A = \Sigma / \mathrm{tr} \Sigma, \quad Y_0 = A, \quad Z_0 = I, \quad T = (3 I - Z Y) / 2,
              \quad Y \leftarrow Y T, \quad Z \leftarrow T Z

    Args:
        matrix: ``[n, c, c]``, its trace above 0.
        n_iterations: more come nearer to the root.

    Returns:
        :math:`\sqrt{\mathrm{tr} \Sigma}\, Y`, ``[n, c, c]``.
    """
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    trace = (matrix * identity).sum((1, 2), keepdim=True)
    y, z = matrix / trace, identity
    for _ in range(n_iterations):
        step = 1.5 * identity - 0.5 * (z @ y)
        y, z = y @ step, step @ z
    return y * trace.sqrt()


class CovariancePooling(nn.Module):
    """A feature map to the upper triangle of its covariance's square root, always in float32.

    Args:
        n_channels: c of the feature map.
    """

    triangle: Tensor

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        rows, columns = torch.triu_indices(n_channels, n_channels)
        self.n_outputs = len(rows)
        self.register_buffer("triangle", rows * n_channels + columns, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Describe ``[n, c, h, w]`` by ``[n, c (c + 1) / 2]``."""
        with _exact(x):
            found = covariance(x.float())
            ridge = _RIDGE * torch.eye(found.shape[-1], dtype=found.dtype, device=found.device)
            return newton_schulz(found + ridge).flatten(1)[:, self.triangle]


def _exact(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Turn autocast off where it is on: in half precision the iterations do not settle."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return contextlib.nullcontext()
