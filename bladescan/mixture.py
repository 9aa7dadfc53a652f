"""The one-class head: a Gaussian mixture over photographic embeddings, its fit and its log-likelihood.

Scoring is written here, in float64, so that the PyTorch detector and the exported graph compute the same;
scikit-learn fits and is the reference in the tests. It sets no false-alarm rate: that is `calibration`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Covariance = Literal["full", "tied", "diag", "spherical"]
COVARIANCES: tuple[Covariance, ...] = ("full", "tied", "diag", "spherical")

SHRINKAGES = (0.0, 0.02, 0.1, 0.3, 0.6, 0.9, 0.98, 1.0)
"""Shares of the diagonal that are tried when the shrinkage is chosen by held-out likelihood."""

_CHUNK = 256
_N_FOLDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """A fitted Gaussian mixture. Tensors are float32 as stored; scores are float64.

    With P P^T the precision (inverse covariance) of a component, P is its precision Cholesky factor.

    Attributes:
        weights: ``[k]``, positive, sum 1.
        means: ``[k, d]``.
        precisions_cholesky: ``[k, d, d]`` upper triangular, ``[1, d, d]`` if all components share one, or
            ``[k, d]`` if it is diagonal.
    """

    weights: Tensor
    means: Tensor
    precisions_cholesky: Tensor

    def score_samples(self, embeddings: NDArray[Any]) -> NDArray[np.float64]:
        """Log-likelihood of each row of ``[n, d]``, float64 ``[n]``; higher is more photographic."""
        rows = np.asarray(embeddings, np.float64)
        doubles = (self.weights.double(), self.means.double(), self.precisions_cholesky.double())
        scores = [
            log_likelihood(torch.from_numpy(rows[i : i + _CHUNK]), *doubles)
            for i in range(0, len(rows), _CHUNK)
        ]
        return torch.cat(scores).numpy() if scores else np.empty(0)

    def state(self) -> dict[str, Tensor]:
        """The tensors by name, as stored."""
        return {
            "weights": self.weights,
            "means": self.means,
            "precisions_cholesky": self.precisions_cholesky,
        }


def log_likelihood(x: Tensor, weights: Tensor, means: Tensor, precisions_cholesky: Tensor) -> Tensor:
    r"""Log-density of a Gaussian mixture.

    .. math:: \log \sum_k w_k (2\pi)^{-d/2} |P_k| \exp(-\tfrac12 \lVert (x - \mu_k) P_k \rVert^2)

    Args:
        x: ``[n, d]``.
        weights: ``[k]``.
        means: ``[k, d]``.
        precisions_cholesky: as in `Mixture`.

    Returns:
        ``[n]``, of the dtype of the arguments.
    """
    centred = x - means[:, None]  # [k, n, d]
    if precisions_cholesky.ndim == 3:
        whitened = centred @ precisions_cholesky
        diagonal = precisions_cholesky.diagonal(dim1=-2, dim2=-1)  # [k or 1, d]
    else:
        whitened = centred * precisions_cholesky[:, None]
        diagonal = precisions_cholesky
    constant = weights.log() + diagonal.log().sum(-1) - 0.5 * x.shape[-1] * math.log(2 * math.pi)  # [k]
    joint = (constant[:, None] - 0.5 * (whitened * whitened).sum(-1)).T  # [n, k]
    # Log-sum-exp spelt out: every operation exists in float64 in ONNX runtimes.
    peak = joint.amax(-1, keepdim=True)
    return (peak + (joint - peak).exp().sum(-1, keepdim=True).log()).squeeze(-1)
