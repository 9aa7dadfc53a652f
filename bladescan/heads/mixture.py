"""The one-class head: a Gaussian mixture over photographic embeddings, and its log-likelihood.

Scoring is written here, in float64, so that the PyTorch detector and the exported graph compute the same;
`mixture_fit` fits it. Shape letters: k components, n samples, d features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CHUNK = 256


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """A fitted Gaussian mixture. Tensors are float32 as stored; scores are float64.

    With P P^T the precision (inverse covariance) of a component, P is its precision Cholesky factor.

    Attributes:
        weights_: ``[k]``, positive, sum 1.
        means_: ``[k, d]``.
        precisions_cholesky_: ``[k, d, d]`` upper triangular, ``[1, d, d]`` if all components share one, or
            ``[k, d]`` if it is diagonal.
    """

    weights_: Tensor
    means_: Tensor
    precisions_cholesky_: Tensor

    def score_samples(self, embeddings: NDArray[Any]) -> NDArray[np.float64]:
        """Compute log-likelihoods, float64 ``[n]``, of rows ``[n, d]``; higher is more photographic."""
        rows = np.asarray(embeddings, np.float64)
        constants = log_constants(self.weights_, self.precisions_cholesky_)
        means, factors = self.means_.double(), self.precisions_cholesky_.double()
        scores = [
            log_likelihood(torch.from_numpy(rows[i : i + _CHUNK]), constants, means, factors)
            for i in range(0, len(rows), _CHUNK)
        ]
        return torch.cat(scores).numpy() if scores else np.empty(0)

    def state(self) -> dict[str, Tensor]:
        """Give the tensors by name, as stored."""
        return {
            "weights": self.weights_,
            "means": self.means_,
            "precisions_cholesky": self.precisions_cholesky_,
        }


def log_constants(weights: Tensor, precisions_cholesky: Tensor) -> Tensor:
    r"""Compute what does not depend on the sample: :math:`\log w_k + \log |P_k| - \tfrac d2 \log 2\pi`.

    Args:
        weights: ``[k]``.
        precisions_cholesky: as in `Mixture`.

    Returns:
        Float64 ``[k]``.
    """
    factors = precisions_cholesky.double()
    diagonal = factors.diagonal(dim1=-2, dim2=-1) if factors.ndim == 3 else factors  # [k or 1, d]
    return weights.double().log() + diagonal.log().sum(-1) - 0.5 * factors.shape[-1] * math.log(2 * math.pi)


def log_likelihood(x: Tensor, constants: Tensor, means: Tensor, precisions_cholesky: Tensor) -> Tensor:
    r"""Compute the log-density of a Gaussian mixture.

    .. math:: \log \sum_k \exp(c_k - \tfrac12 \lVert (x - \mu_k) P_k \rVert^2)

    Args:
        x: ``[n, d]``.
        constants: :math:`c`, ``[k]``, of `log_constants`.
        means: ``[k, d]``.
        precisions_cholesky: as in `Mixture`.

    Returns:
        ``[n]``, of the dtype of the arguments.
    """
    centred = x - means[:, None]  # [k, n, d]
    if precisions_cholesky.ndim == 3:
        whitened = centred @ precisions_cholesky
    else:
        whitened = centred * precisions_cholesky[:, None]
    joint = (constants[:, None] - 0.5 * (whitened * whitened).sum(-1)).T  # [n, k]
    # Not exp, sum, log: runtimes compute those in SIMD packets with another last bit in the remainder, so
    # that a row would depend on its batch. Their log-sum-exp goes row by row.
    return torch.logsumexp(joint, -1)


def sample(mixture: Mixture, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw ``[n, d]`` from the mixture, component by component."""
    weights = mixture.weights_.double().numpy()
    counts = rng.multinomial(n, weights / weights.sum())
    factors, k = mixture.precisions_cholesky_.double(), len(weights)
    means = mixture.means_.double().numpy()
    parts = []
    for i in range(k):
        z = torch.from_numpy(rng.standard_normal((counts[i], means.shape[1])))
        factor = factors[i % len(factors)]  # one for all if tied
        if factor.ndim == 2:
            # cov = P^-T P^-1, so x - mean = P^-T z solves P^T y = z; samples are rows.
            z = torch.linalg.solve_triangular(factor, z, upper=True, left=False)
        else:
            z = z / factor
        parts.append(means[i] + z.numpy())
    return np.concatenate(parts)


def to_scikit_learn(mixture: Mixture) -> Any:
    """Make a fitted ``sklearn.mixture.GaussianMixture`` of the mixture, to compare and to sample with."""
    from sklearn.mixture import GaussianMixture

    factors = mixture.precisions_cholesky_.double().numpy()
    k = len(mixture.weights_)
    kind = "diag" if factors.ndim == 2 else "full" if len(factors) == k else "tied"
    model = GaussianMixture(k, covariance_type=kind)
    model.weights_ = mixture.weights_.double().numpy()
    model.means_ = mixture.means_.double().numpy()
    model.precisions_cholesky_ = factors[0] if kind == "tied" else factors
    return model
