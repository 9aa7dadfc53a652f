"""Small text encoders and their prompts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bladescan.networks.text_encoders import TEXT_ENCODERS, TextEncoder
from bladescan.networks.tokenisers import tokenise
from bladescan.tasks import pretext_tasks as tasks

PROMPTS = tasks.prompts(tasks.PAPER_TASKS)

FEW = ("A photo of a photographic face", "A photo of a manipulated face", "A", "low ISO")

SHAPE = {"layers": 2, "width": 32, "heads": 4, "embedding_dim": 24}

NAMES = tuple(TEXT_ENCODERS)


def small(name: str, prompts: tuple[str, ...] = FEW, **more: int) -> TextEncoder:
    """A small encoder in float64 with every weight drawn, so that no term is hidden by a zero."""
    torch.manual_seed(3)
    encoder = TextEncoder(name, prompts, **(SHAPE | more)).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder


def alone(model: nn.Module, name: str, pool: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
    rows = [tokenise(name, [prompt]).ids for prompt in PROMPTS]
    with torch.no_grad():
        return torch.cat([pool(model, row) for row in rows])
