"""The binary head: a small MLP from an embedding to P(AI-generated), and its training.

It sees embeddings only. It decides nothing: its false-alarm rate is set in `calibration`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

HIDDEN = 1536
"""Width of the hidden layer (METHOD 5)."""


class Classifier(nn.Module):
    """MLP d -> hidden -> ReLU -> 2; output 1 is AI-generated.

    Args:
        embedding_dim: d.
        hidden: width of the hidden layer.
    """

    def __init__(self, embedding_dim: int = 768, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embedding_dim, hidden)
        self.fc2 = nn.Linear(hidden, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[n, 2]`` of embeddings ``[n, d]``, computed in the dtype of ``x``."""
        # Weights stay float32 in files; a detector scores in float64 for rows that no batch size changes.
        return _linear(self.fc2, torch.relu(_linear(self.fc1, x)))

    def p_ai_generated(self, x: Tensor) -> Tensor:
        """P(AI-generated) ``[n]`` of embeddings ``[n, d]``: the softmax of two logits."""
        logits = self(x)
        # A power, not exp or sigmoid: runtimes compute those in SIMD packets with another last bit in the
        # remainder, so that a row would depend on its batch.
        return 1 / (1 + torch.pow(math.e, logits[:, 0] - logits[:, 1]))


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
