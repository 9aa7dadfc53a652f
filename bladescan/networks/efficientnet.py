"""EfficientNet-Lite (Tan and Le, 2019; the Lite variants of 2020) in timm's layout and key names.

Lite means: no squeeze-and-excitation, ReLU6 for swish, stem and head of the same width in every size. It is
the strongest network of its cost that starts from published ImageNet weights under a free licence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu6

from bladescan.detectors.manifest import Preprocessing
from bladescan.networks.vision_encoder import VisionEncoder

EFFICIENTNETS = ("efficientnet-lite0",)

STEM_WIDTH = 32
"""Channels of the published stem."""

_EPS, _MOMENTUM = 1e-3, 0.01
_FIRST_DESCRIBED = 1
_GRAIN = 8
"""Channels are a multiple of this."""


class _Stage(NamedTuple):
    """Blocks of one resolution: kernel, stride of the first, expansion, channels and how many."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    depth: int


_STAGES = (
    _Stage(3, 1, 1, 16, 1),
    _Stage(3, 2, 6, 24, 2),
    _Stage(5, 2, 6, 40, 2),
    _Stage(3, 2, 6, 80, 3),
    _Stage(5, 1, 6, 112, 3),
    _Stage(5, 2, 6, 192, 4),
    _Stage(3, 1, 6, 320, 1),
)


_OUTER_NAMES = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_WIDE_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_SEPARABLE_NAMES = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


class SamePadConv(nn.Conv2d):
    """A convolution padded as TensorFlow does: what is odd goes to the right and to the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve Convolve ``[n, c, h, w]`` to ``[n, c', ceil(h / stride), ceil(w / stride)]``."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        both = [
            max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in (x.shape[3], x.shape[2])
        ]
        return super().forward(pad(x, [half for total in both for half in (total // 2, total - total // 2)]))


class SeparableBlock(nn.Module):
    """A depthwise and a 1x1 convolution; the block of the first stage."""

    def __init__(self, n_in: int, n_out: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        self.conv_dw = SamePadConv(n_in, n_in, stage.kernel, stride, groups=n_in, bias=False)
        self.bn1 = _norm(n_in)
        self.conv_pw = nn.Conv2d(n_in, n_out, 1, bias=False)
        self.bn2 = _norm(n_out)
        self.has_shortcut = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        """Map Map ``[n, n_in, h, w]`` to ``[n, n_out, h / stride, w / stride]``."""
        y: Tensor = relu6(self.bn1(self.conv_dw(x)))
        y = self.bn2(self.conv_pw(y))
        return x + y if self.has_shortcut else y


class InvertedResidual(nn.Module):
    """A wide depthwise convolution between two 1x1 ones; the shortcut joins the narrow ends."""

    def __init__(self, n_in: int, n_out: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        wide = n_in * stage.expansion
        self.conv_pw = nn.Conv2d(n_in, wide, 1, bias=False)
        self.bn1 = _norm(wide)
        self.conv_dw = SamePadConv(wide, wide, stage.kernel, stride, groups=wide, bias=False)
        self.bn2 = _norm(wide)
        self.conv_pwl = nn.Conv2d(wide, n_out, 1, bias=False)
        self.bn3 = _norm(n_out)
        self.has_shortcut = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        """Map Map ``[n, n_in, h, w]`` to ``[n, n_out, h / stride, w / stride]``."""
        y: Tensor = relu6(self.bn1(self.conv_pw(x)))
        y = relu6(self.bn2(self.conv_dw(y)))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.has_shortcut else y


class EfficientNetLite(VisionEncoder):
    """EfficientNet-Lite0, described at several depths.

    AI-generated faces differ from photographs in texture as much as in what they show, and texture is gone
    from the last stage. So every stage but the first gives the mean and the spread of its channels; a
    batch norm brings them to one scale before the last layer.

    Args:
        name: of `EFFICIENTNETS`.
        width: channels of the stem; 32 is what is published, the others follow.
        embedding_dim: outputs of the last layer ``fc``.
    """

    input_scale: Tensor
    input_shift: Tensor

    def __init__(self, name: str, width: int, embedding_dim: int) -> None:
        super().__init__(name, width, embedding_dim)
        # The caller's normalisation to that of the published weights, which see (pixel - 127) / 128.
        given = Preprocessing()
        scale = torch.tensor(given.std).view(3, 1, 1) * 255 / 128
        shift = (torch.tensor(given.mean).view(3, 1, 1) * 255 - 127) / 128
        self.register_buffer("input_scale", scale, persistent=False)
        self.register_buffer("input_shift", shift, persistent=False)
        self.conv_stem = SamePadConv(3, width, 3, 2, bias=False)
        self.bn1 = _norm(width)
        channels = [_grained(stage.channels * width / STEM_WIDTH) for stage in _STAGES]
        stages = zip([width, *channels], channels, _STAGES, strict=False)
        self.blocks = nn.Sequential(*(_blocks(n_in, n_out, stage) for n_in, n_out, stage in stages))
        n_described = 2 * sum(channels[_FIRST_DESCRIBED:])
        self.norm = nn.BatchNorm2d(n_described)
        self.fc = nn.Linear(n_described, embedding_dim)
        self.apply(_initialise)

    def features(self, x: Tensor) -> Tensor:
        """Compute means and standard deviations of the stages' channels, brought to one scale, ``[n, d]``."""
        x = relu6(self.bn1(self.conv_stem(x * self.input_scale + self.input_shift)))
        described: list[Tensor] = []
        for index, stage in enumerate(self.blocks):
            x = stage(x)
            if index >= _FIRST_DESCRIBED:
                described += moments(x)
        # Of two dimensions, each of length 1: what several processes share is this kind of batch norm.
        features: Tensor = self.norm(torch.cat(described, 1)[:, :, None, None]).flatten(1)
        return features


def timm_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights to timm's names, and leave the classifier of objects out.

    Args:
        state: by timm's names, or those of the package ``efficientnet_lite_pytorch``, whose blocks are
            numbered through and whose layers have an underscore in front.
    """
    named = state
    if "_conv_stem.weight" in state:
        flat = [f"blocks.{i}.{j}" for i, stage in enumerate(_STAGES) for j in range(stage.depth)]
        named = {_timm_name(key, flat): value for key, value in state.items()}
    heads = ("conv_head.", "bn2.", "classifier.")
    return {key: value for key, value in named.items() if not key.startswith(heads)}


def _timm_name(key: str, flat: list[str]) -> str:
    """Rename Rename ``_blocks.3._bn0.weight`` to ``blocks.2.0.bn1.weight``."""
    layer, _, rest = key.partition(".")
    if layer != "_blocks":
        return f"{_OUTER_NAMES.get(layer, layer)}.{rest}"
    number, layer, rest = rest.split(".", 2)
    names = _SEPARABLE_NAMES if number == "0" else _WIDE_NAMES
    return f"{flat[int(number)]}.{names.get(layer, layer)}.{rest}"


def _blocks(n_in: int, n_out: int, stage: _Stage) -> nn.Sequential:
    block = SeparableBlock if stage.expansion == 1 else InvertedResidual
    first = block(n_in, n_out, stage, stage.stride)
    return nn.Sequential(first, *(block(n_out, n_out, stage, 1) for _ in range(stage.depth - 1)))


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation of every channel of ``[n, c, h, w]``."""
    x = x.float()  # in bfloat16 a small spread around a large mean is rounding noise
    mean = x.mean((2, 3), keepdim=True)
    variance = (x - mean).square().mean((2, 3))
    return mean.flatten(1), (variance + _EPS).sqrt()


def _norm(n: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(n, eps=_EPS, momentum=_MOMENTUM)


def _grained(channels: float) -> int:
    return max(_GRAIN, round(channels / _GRAIN) * _GRAIN)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.groups > 1:  # fan_out counts all channels, a depthwise one reaches its own alone
            module.weight.data.mul_(module.groups**0.5)
