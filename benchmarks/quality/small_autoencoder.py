"""A small convolutional autoencoder trained on face crops in minutes: no generator's, but at hand.

Each 8 x 8 square of pixels becomes 8 numbers, 24 times fewer. Pixels go from 0 to 1.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bladescan.networks.torch_graph import torch_to_onnx

_LATENT = 8
_WIDTH = 48
_PATCH = 64
_BATCH = 16


class SmallAutoencoder(nn.Module):
    """Three halvings, a latent map of `_LATENT` channels, three doublings."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in in (3, _WIDTH, _WIDTH):
            layers += [nn.Conv2d(n_in, _WIDTH, 4, 2, 1), nn.SiLU()]
        layers += [nn.Conv2d(_WIDTH, _LATENT, 3, 1, 1), nn.Conv2d(_LATENT, _WIDTH, 3, 1, 1), nn.SiLU()]
        for n_out in (_WIDTH, _WIDTH, 3):
            layers += [nn.ConvTranspose2d(_WIDTH, n_out, 4, 2, 1), nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, pictures: Tensor) -> Tensor:
        """Give pictures ``[n, 3, h, w]`` back; sides are multiples of 8."""
        made: Tensor = self.layers(pictures)
        return made


def train_autoencoder(crops: NDArray[np.uint8], seconds: float, out: Path) -> float:
    """Train on patches of crops ``[n, h, w, 3]`` for so long and write it as ONNX, for their size.

    Args:
        crops: of faces.
        seconds: of the wall clock.
        out: file to write.

    Returns:
        Its root mean squared error on the last patches, of a range of 1.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = SmallAutoencoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    end = time.monotonic() + seconds
    errors = [1.0]
    while (left := end - time.monotonic()) > 0:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * max(0.05, min(1.0, 2 * left / seconds))
        corners = rng.integers(0, crops.shape[1] - _PATCH + 1, (_BATCH, 2))
        chosen = rng.integers(0, len(crops), _BATCH)
        patches = np.stack(
            [crops[i, y : y + _PATCH, x : x + _PATCH] for i, (y, x) in zip(chosen, corners, strict=True)]
        )
        wanted = torch.from_numpy(patches).permute(0, 3, 1, 2).float() / 255
        loss = (model(wanted) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        errors.append(float(loss.detach()))
    out.write_bytes(torch_to_onnx(model, torch.zeros(2, 3, *crops.shape[1:3]), "picture", ["made"]))
    return float(np.mean(errors[-50:]) ** 0.5)
