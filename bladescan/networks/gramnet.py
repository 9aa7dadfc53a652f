"""GramNet: a ResNet that also sees how the channels of its feature maps go together (Liu et al., 2020).

Texture, wherever it is in the picture, is what the Gram matrix of a feature map keeps. A block describes the
Gram matrix of the image, of the stem before and after its pooling, and of the first three stages; the six
descriptions stand beside the means of the last stage.

Written from a description of the paper. What that leaves open (channels, strides, the Gram matrix divided by
the number of places) is our choice.

References:
    Liu, Qi and Torr, "Global Texture Enhancement for Fake Face Detection in the Wild", CVPR 2020,
    arXiv:2002.00133.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bladescan.networks.resnet import ResNet, initialise, stage_channels

GRAMNET = "gramnet"

_BACKBONE = "resnet18"
_ALIGNED = 32  # channels of which a Gram matrix is made; ours
_DESCRIBED = 32  # numbers that describe one; ours


def gram_matrix(x: Tensor) -> Tensor:
    r"""Compute the mean products of channels over places, ``[n, c, h, w]`` to ``[n, c, c]``.

    .. math:: G_{ij} = \frac{1}{h w} \sum_k F_{ik} F_{jk}
    """
    flat = x.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


class GramBlock(nn.Module):
    """A feature map to numbers that describe its Gram matrix.

    Args:
        n_in: channels of the map.
    """

    def __init__(self, n_in: int) -> None:
        super().__init__()
        self.align = nn.Conv2d(n_in, _ALIGNED, 3, padding=1)
        self.refine = nn.Sequential(
            nn.Conv2d(1, _DESCRIBED // 2, 3, 2, 1, bias=False),
            nn.BatchNorm2d(_DESCRIBED // 2),
            nn.ReLU(),
            nn.Conv2d(_DESCRIBED // 2, _DESCRIBED, 3, 2, 1, bias=False),
            nn.BatchNorm2d(_DESCRIBED),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Describe ``[n, n_in, h, w]`` by ``[n, 32]``."""
        described: Tensor = self.refine(gram_matrix(self.align(x))[:, None])
        return described.mean((2, 3))


class GramNet(ResNet):
    """ResNet-18 with a block for each of six feature maps; trunk by torchvision's names.

    Args:
        width: channels of the stem.
        embedding_dim: outputs of the last layer ``fc``.
        zero_init: see `ResNet`.
    """

    # A Gram matrix is a sum over thousands of places: half precision has neither its range nor its digits.
    float32_layers = ("gram", "fc")
    own_layers = ("gram.", "fc.")

    def __init__(self, width: int, embedding_dim: int, *, zero_init: bool = False) -> None:
        super().__init__(_BACKBONE, width, embedding_dim, zero_init=zero_init)
        self.name = GRAMNET
        channels = stage_channels(_BACKBONE, width)
        self.gram = nn.ModuleList(GramBlock(n) for n in (3, width, width, *channels[:3]))
        self.gram.apply(initialise)
        self.fc = nn.Linear(channels[3] + _DESCRIBED * len(self.gram), embedding_dim)

    def features(self, x: Tensor) -> Tensor:
        """Compute the means of the last stage and the six descriptions, ``[n, d + 192]``."""
        *seen, last = self.maps(x)
        grams = [block(seen_map) for block, seen_map in zip(self.gram, (x, *seen), strict=True)]
        return torch.cat([last.mean((2, 3)).to(grams[0].dtype), *grams], 1)
