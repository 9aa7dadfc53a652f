"""Embeddings brought to mean 0 and deviation 1 for a fit, and heads brought back to embeddings as they are.

A head that was fitted on standardised embeddings is folded: it then scores embeddings as they are. So a file
and a graph hold one kind of head, whatever it was fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bladescan.heads.mixture import Mixture


class Standard(NamedTuple):
    """Mean and deviation of each number of an embedding.

    Attributes:
        mean: float64 ``[d]``.
        deviation: float64 ``[d]``, 1 where a number never changes.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, parts: Sequence[NDArray[Any]]) -> Standard:
        """Measure embeddings ``[n, d]``; each part weighs the same, however many rows it has."""
        means = [part.mean(0, dtype=np.float64) for part in parts]
        mean = np.mean(means, 0)
        squares = [np.square(part - mean.astype(part.dtype)).mean(0, dtype=np.float64) for part in parts]
        deviation = np.sqrt(np.mean(squares, 0))
        return cls(mean, np.where(deviation > 1e-12, deviation, 1.0))

    @classmethod
    def unchanged(cls, d: int) -> Standard:
        """Make the one that leaves every bit as it is, for embeddings that were learned on a sphere."""
        return cls(np.zeros(d), np.ones(d))

    def apply(self, embeddings: NDArray[Any]) -> NDArray[np.float32]:
        """Standardise rows of any shape ``[..., d]``."""
        found: NDArray[np.float32] = ((embeddings - self.mean) / self.deviation).astype(np.float32)
        return found

    @property
    def log_volume(self) -> float:
        """What a log-density loses when it is told of embeddings as they are: the sum of log deviations."""
        return float(np.log(self.deviation).sum())

    def folded_mixture(self, mixture: Mixture) -> Mixture:
        """Turn a mixture of standardised embeddings into one of embeddings as they are."""
        mean, deviation = torch.from_numpy(self.mean), torch.from_numpy(self.deviation)
        means = mixture.means_.double() * deviation + mean
        # (z - m) P with z = (x - mean) / deviation is (x - m') P', the rows of P' divided by the deviations.
        factors = mixture.precisions_cholesky_.double()
        factors = factors / (deviation[:, None] if factors.ndim == 3 else deviation)
        return Mixture(mixture.weights_, means.float(), factors.float())

    def folded_classifier(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn the first layer of a binary head, by name, into one for embeddings as they are."""
        layer = "fc1" if "fc1.weight" in state else "fc2"
        mean, deviation = torch.from_numpy(self.mean), torch.from_numpy(self.deviation)
        weight = state[f"{layer}.weight"].double() / deviation
        bias = state[f"{layer}.bias"].double() - weight @ mean
        return {**state, f"{layer}.weight": weight.float(), f"{layer}.bias": bias.float()}
