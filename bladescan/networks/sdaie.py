"""SDAIE's encoder: how the high-pass residuals of an image's tiles vary together (Zhong et al., 2025).

Written from a description of the paper alone. What that leaves open (channels, truncation, depth of the
convolutions, length of a token) is our choice.

References:
    Zhong et al., "Self-Supervised AI-Generated Image Detection: A Camera Metadata Perspective",
    arXiv:2512.05651.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from bladescan.detectors.manifest import Preprocessing
from bladescan.networks.covariance_pooling import CovariancePooling
from bladescan.networks.srm import N_KERNELS, Residuals
from bladescan.networks.transformer import Transformer
from bladescan.networks.vision_encoder import VisionEncoder

SDAIE = "sdaie"

TILE = 64
"""Side of a tile in pixels."""

GRID = 8
"""Tiles begin at multiples of so many pixels where they can, as JPEG's blocks do."""

_TRUNCATION = 10.0  # grey levels; ours
_TOKEN = 8  # length of a token in stem widths; ours
_HEADS = 4  # of the attention; ours
_LAYERS = 2


class SdaieEncoder(VisionEncoder):
    """Tiles of 64 pixels, SRM residuals, small convolutions, covariance pooling, two transformer blocks.

    Tiles have no place: in whichever order they come, the embedding is the same.

    Args:
        width: channels of the first convolution; all else follows.
        embedding_dim: outputs of the last layer ``fc``.
    """

    float32_layers = ("residuals", "pool", "token", "mixer", "norm", "fc")
    scale: Tensor
    shift: Tensor

    def __init__(self, width: int, embedding_dim: int) -> None:
        super().__init__(SDAIE, width, embedding_dim)
        given = Preprocessing()  # the caller's normalisation, to be undone
        self.register_buffer("scale", 255 * torch.tensor(given.std).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", 255 * torch.tensor(given.mean).view(3, 1, 1), persistent=False)
        self.residuals = Residuals(_TRUNCATION)
        self.trunk = nn.Sequential(
            nn.Conv2d(3 * N_KERNELS, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, bias=False),
            nn.BatchNorm2d(2 * width),
        )
        self.pool = CovariancePooling(2 * width)
        token = _TOKEN * width
        self.token = nn.Sequential(nn.LayerNorm(self.pool.n_outputs), nn.Linear(self.pool.n_outputs, token))
        self.mixer = Transformer(_LAYERS, token, _HEADS, torch.relu)
        self.norm = nn.LayerNorm(token)
        self.fc = nn.Linear(token, embedding_dim)
        self.apply(_initialise)
        for name, parameter in self.mixer.named_parameters():
            if name.endswith("in_proj_weight"):
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def features(self, x: Tensor) -> Tensor:
        """Compute the mean of the tiles' states, ``[n, 8 * width]``."""
        levels = torch.round(x * self.scale + self.shift)
        tiles = cut_tiles(levels)
        described = self.pool(self.trunk(self.residuals(tiles.flatten(0, 1))))
        states = self.mixer(self.token(described).unflatten(0, (-1, tiles.shape[1])))
        # Added one by one: runtimes reduce as the shape suggests, so that a row would depend on its batch.
        features: Tensor = self.norm(functools.reduce(torch.add, states.unbind(1)) / states.shape[1])
        return features


def cut_tiles(x: Tensor) -> Tensor:
    """Cut an image into tiles that cover all of it; where `TILE` does not divide a side, they overlap.

    Args:
        x: ``[n, c, h, w]``.

    Returns:
        ``[n, t, c, TILE, TILE]``; a side below `TILE` is one tile, as it is.
    """
    height, width = x.shape[2:]
    corners = [(top, left) for top in tile_starts(height) for left in tile_starts(width)]
    return torch.stack([x[:, :, top : top + TILE, left : left + TILE] for top, left in corners], 1)


def tile_starts(length: int) -> list[int]:
    """List where the fewest tiles that cover a side begin, spread evenly on JPEG's grid."""
    n_tiles = max(1, -(-length // TILE))
    last = max(0, length - TILE)
    between = [round(last * i / (n_tiles - 1) / GRID) * GRID for i in range(n_tiles - 1)]
    return [*between, last]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
