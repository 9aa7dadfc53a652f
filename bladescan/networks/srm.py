"""The 30 high-pass kernels of the spatial rich model: a pixel less what its neighbours predict of it.

They are fixed: nothing here is learned. What an image shows is smooth and mostly vanishes; noise,
interpolation and compression stay.

References:
    Fridrich and Kodovsky, "Rich Models for Steganalysis of Digital Images", IEEE TIFS 7(3), 2012, section II.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

N_KERNELS = 30

SIDE = 5
"""Of every kernel; smaller ones stand in the middle of zeros."""

_DIRECTIONS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
_SQUARE_3 = ((-1, 2, -1), (2, -4, 2), (-1, 2, -1))
_SQUARE_5 = (
    (-1, 2, -2, 2, -1),
    (2, -6, 8, -6, 2),
    (-2, 8, -12, 8, -2),
    (2, -6, 8, -6, 2),
    (-1, 2, -2, 2, -1),
)


def srm_kernels() -> Tensor:
    """Make the kernels in whole numbers, float ``[30, 5, 5]``.

    In order: 8 of first order, 4 of second, 8 of third, SQUARE 3x3, 4 times EDGE 3x3, SQUARE 5x5, 4 times
    EDGE 5x5. Their centre is the divisor that brings them to the scale of one pixel.
    """
    first = [_line({0: -1, 1: 1}, direction) for direction in _DIRECTIONS]
    second = [_line({-1: 1, 0: -2, 1: 1}, direction) for direction in _DIRECTIONS[:4]]
    third = [_line({-1: -1, 0: 3, 1: -3, 2: 1}, direction) for direction in _DIRECTIONS]
    squares = [
        kernel for square in (_SQUARE_3, _SQUARE_5) for kernel in _square_and_edges(torch.tensor(square))
    ]
    return torch.stack([*first, *second, *third, *squares]).float()


class Residuals(nn.Module):
    """Pixels to truncated residuals, every colour by itself.

    Whole grey levels and whole-number kernels make it exact also in half precision: bfloat16 holds all
    integers up to 256, and what is larger is truncated.

    Args:
        truncation: T, in grey levels of one pixel; at most 21 keeps half precision exact.
    """

    kernels: Tensor
    divisors: Tensor

    def __init__(self, truncation: float) -> None:
        super().__init__()
        kernels = srm_kernels()
        centre = kernels[:, SIDE // 2, SIDE // 2].abs()
        self.truncation = truncation
        self.register_buffer("kernels", kernels[:, None], persistent=False)
        self.register_buffer("divisors", centre[:, None, None], persistent=False)

    def forward(self, levels: Tensor) -> Tensor:
        """Filter whole grey levels ``[n, 3, h, w]`` to ``[n, 90, h - 4, w - 4]``, colour by colour."""
        height, width = levels.shape[2:]
        filtered = functional.conv2d(levels.reshape(-1, 1, height, width), self.kernels)
        residuals = (filtered / self.divisors).clamp(-self.truncation, self.truncation)
        return residuals.reshape(-1, 3 * N_KERNELS, height - SIDE + 1, width - SIDE + 1)


def _line(weights: dict[int, int], direction: tuple[int, int]) -> Tensor:
    """Lay weights, by their distance from the centre, along a direction."""
    kernel = torch.zeros(SIDE, SIDE, dtype=torch.int64)
    for distance, weight in weights.items():
        kernel[SIDE // 2 + distance * direction[0], SIDE // 2 + distance * direction[1]] = weight
    return kernel


def _square_and_edges(square: Tensor) -> list[Tensor]:
    """Pad a square kernel, and its upper half, middle row included, turned four ways."""
    edge = square.clone()
    edge[math.ceil(len(square) / 2) :] = 0
    margin = (SIDE - len(square)) // 2
    turned = [torch.rot90(edge, turns) for turns in range(4)]
    return [functional.pad(kernel, (margin,) * 4) for kernel in (square, *turned)]
