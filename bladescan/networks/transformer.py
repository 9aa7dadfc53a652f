"""A transformer with layer norms before attention and MLP, by CLIP's parameter names.

Shape letters: n sequences, s nodes, w width, h heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Callable[[Tensor], Tensor]


def _gelu_tanh(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Activation] = {"gpt2": _gelu_tanh, "clip": _quick_gelu}
"""Of the published models, by name."""


class _Block(nn.Module):
    """Layer norm, attention, layer norm, MLP, each pair with a shortcut; CLIP's parameter names."""

    def __init__(self, width: int, heads: int, activation: Activation) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = _Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = _Mlp(width, activation)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix states ``[n, s, w]``; ``mask`` is bool ``[s, s]``, true where a row sees a column."""
        x = x + self.attn(self.ln_1(x), mask)
        mixed: Tensor = x + self.mlp(self.ln_2(x))
        return mixed


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        projected = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        parts = projected.view(*x.shape[:2], 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # each [n, h, s, w / h]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        joined: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return joined


class _Mlp(nn.Module):
    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)
        self._activation = activation

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.c_proj(self._activation(self.c_fc(x)))
        return mixed


class Transformer(nn.Module):
    """Blocks one after the other; which node sees which, the mask says; without one, each sees all.

    Args:
        layers: blocks.
        width: of the states.
        heads: of the attention; ``width`` is a multiple of it.
        activation: of the MLP.
    """

    def __init__(self, layers: int, width: int, heads: int, activation: Activation) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(width, heads, activation) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix states ``[n, s, w]``; ``mask`` is bool ``[s, s]``, true where a row sees a column."""
        for block in self.resblocks:
            x = block(x, mask)
        return x
