"""ResNet (He et al., 2016) in torchvision's layout and key names."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bladescan.networks.vision_encoder import VisionEncoder


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a shortcut; the stride is on the 3x3, as in torchvision.

    Args:
        n_in: input channels.
        width: channels of the two inner convolutions; the output has four times as many.
        stride: of the 3x3 convolution and of the shortcut.
    """

    expansion = 4

    def __init__(self, n_in: int, width: int, stride: int) -> None:
        super().__init__()
        n_out = width * self.expansion
        self.conv1 = nn.Conv2d(n_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, n_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(n_out)
        self.downsample = _shortcut(n_in, n_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map Map ``[n, n_in, h, w]`` to ``[n, 4 width, h / stride, w / stride]``."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut.

    Args:
        n_in: input channels.
        width: output channels.
        stride: of the first convolution and of the shortcut.
    """

    expansion = 1

    def __init__(self, n_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(n_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map Map ``[n, n_in, h, w]`` to ``[n, width, h / stride, w / stride]``."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class _Layout(NamedTuple):
    block: type[Bottleneck] | type[BasicBlock]
    depths: tuple[int, int, int, int]


RESNETS: dict[str, _Layout] = {
    "resnet10": _Layout(BasicBlock, (1, 1, 1, 1)),
    "resnet18": _Layout(BasicBlock, (2, 2, 2, 2)),
    "resnet34": _Layout(BasicBlock, (3, 4, 6, 3)),
    "resnet50": _Layout(Bottleneck, (3, 4, 6, 3)),
}


class ResNet(VisionEncoder):
    """A ResNet.

    Args:
        name: a key of `RESNETS`.
        width: channels of the stem; the four stages have 1, 2, 4 and 8 times as many.
        embedding_dim: outputs of the last layer ``fc``.
        zero_init: start every residual branch at zero (Goyal et al., 2017): a deep network begins as a flat
            one. Else as torchvision does.
    """

    def __init__(self, name: str, width: int, embedding_dim: int, *, zero_init: bool = False) -> None:
        super().__init__(name, width, embedding_dim)
        block, depths = RESNETS[name]
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        n_in = width
        self.layer1, n_in = _stage(block, n_in, width, depths[0], stride=1)
        self.layer2, n_in = _stage(block, n_in, 2 * width, depths[1], stride=2)
        self.layer3, n_in = _stage(block, n_in, 4 * width, depths[2], stride=2)
        self.layer4, n_in = _stage(block, n_in, 8 * width, depths[3], stride=2)
        self.fc = nn.Linear(n_in, embedding_dim)
        self.apply(initialise)
        if zero_init:
            self.apply(_close_branch)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Compute the feature maps ``[n, c, h, w]``: of the stem, of its pooling, and of the four stages."""
        found = [torch.relu(self.bn1(self.conv1(x)))]
        for layer in (self.maxpool, self.layer1, self.layer2, self.layer3, self.layer4):
            found.append(layer(found[-1]))
        return found

    def features(self, x: Tensor) -> Tensor:
        """Compute the means of the last stage, ``[n, d]``."""
        # A plain mean, not adaptive pooling: it exports to one ONNX node whatever the image size.
        return self.maps(x)[-1].mean((2, 3))


def _shortcut(n_in: int, n_out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and n_in == n_out:
        return None
    return nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))


def _stage(
    block: type[Bottleneck] | type[BasicBlock], n_in: int, width: int, depth: int, *, stride: int
) -> tuple[nn.Sequential, int]:
    n_out = width * block.expansion
    blocks = [block(n_in, width, stride), *(block(n_out, width, 1) for _ in range(depth - 1))]
    return nn.Sequential(*blocks), n_out


_kaiming = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")


def stage_channels(name: str, width: int) -> tuple[int, int, int, int]:
    """List how many channels the four stages give."""
    first = width * RESNETS[name].block.expansion
    return first, 2 * first, 4 * first, 8 * first


def initialise(module: nn.Module) -> None:
    """Draw the weights of a convolution as torchvision does."""
    if isinstance(module, nn.Conv2d):
        _kaiming(module.weight)


def _close_branch(module: nn.Module) -> None:
    """Let a residual branch add nothing yet: the weight of its last batch norm is 0."""
    last = (
        module.bn3
        if isinstance(module, Bottleneck)
        else module.bn2
        if isinstance(module, BasicBlock)
        else None
    )
    if last is not None:
        nn.init.zeros_(last.weight)
