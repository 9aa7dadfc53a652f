"""The vision encoder: torchvision's ResNet layout and key names, ending in a linear layer to the embedding.

It is weights and arithmetic: it knows no file but its own state, no photograph and no head. The caller
normalises the pixels and, where the detector asks for it, the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bladescan.errors import DetectorError, UnknownNameError
from bladescan.weights import HUB_PREFIX, fetch, read_weights

VISION_PREFIX = "vision."
"""Prefix of the vision encoder's tensors in safetensors files."""

_COUNTER_SUFFIX = "num_batches_tracked"
"""Batch-norm counters: torch ignores them while the momentum is set, so files go without them."""


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
        """``[n, n_in, h, w]`` to ``[n, 4 width, h / stride, w / stride]``."""
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
        """``[n, n_in, h, w]`` to ``[n, width, h / stride, w / stride]``."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class _Layout(NamedTuple):
    block: type[Bottleneck] | type[BasicBlock]
    depths: tuple[int, int, int, int]


VISION_ENCODERS: dict[str, _Layout] = {
    "resnet10": _Layout(BasicBlock, (1, 1, 1, 1)),
    "resnet18": _Layout(BasicBlock, (2, 2, 2, 2)),
    "resnet34": _Layout(BasicBlock, (3, 4, 6, 3)),
    "resnet50": _Layout(Bottleneck, (3, 4, 6, 3)),
}


class VisionEncoder(nn.Module):
    """A ResNet from normalised pixels to a raw embedding.

    Args:
        name: a key of `VISION_ENCODERS`.
        width: channels of the stem; the four stages have 1, 2, 4 and 8 times as many.
        embedding_dim: outputs of the last layer ``fc``.
        zero_init: start every residual branch at zero (Goyal et al., 2017): a deep network begins as a flat
            one. Else as torchvision does.

    Raises:
        UnknownNameError: no encoder is called ``name``.
    """

    def __init__(
        self, name: str = "resnet50", width: int = 64, embedding_dim: int = 768, *, zero_init: bool = False
    ) -> None:
        super().__init__()
        if name not in VISION_ENCODERS:
            raise UnknownNameError("vision encoder", name, VISION_ENCODERS)
        self.name, self.width, self.embedding_dim = name, width, embedding_dim
        block, depths = VISION_ENCODERS[name]
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        n_in = width
        self.layer1, n_in = _stage(block, n_in, width, depths[0], stride=1)
        self.layer2, n_in = _stage(block, n_in, 2 * width, depths[1], stride=2)
        self.layer3, n_in = _stage(block, n_in, 4 * width, depths[2], stride=2)
        self.layer4, n_in = _stage(block, n_in, 8 * width, depths[3], stride=2)
        self.fc = nn.Linear(n_in, embedding_dim)
        self.apply(_initialise)
        if zero_init:
            self.apply(_close_branch)

    def forward(self, x: Tensor) -> Tensor:
        """Embed images.

        Args:
            x: normalised pixels, float ``[n, 3, height, width]``, any height and width.

        Returns:
            Raw embeddings ``[n, embedding_dim]``, not normalised.
        """
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        # A plain mean, not adaptive pooling: it exports to one ONNX node whatever the image size.
        embedding: Tensor = self.fc(x.mean((2, 3)))
        return embedding


class Complexity(NamedTuple):
    """What an encoder costs.

    Attributes:
        n_parameters: trainable numbers.
        n_multiply_adds: per 224x224 image, counted as in the paper's Table 6.
    """

    n_parameters: int
    n_multiply_adds: int


def complexity(encoder: nn.Module, size: int = 224) -> Complexity:
    """Count parameters and multiply-adds of one image.

    A convolution or linear layer counts one per product; a batch norm counts four operations per element,
    which is the convention that yields the paper's 4,134 M for ResNet-50 (4,089 M without).

    Args:
        encoder: takes float ``[1, 3, size, size]``; it is left as it was.
        size: side of the image in pixels.
    """
    total = 0

    def count(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal total
        total += _multiply_adds(module, output)

    hooks = [module.register_forward_hook(count) for module in encoder.modules()]
    was_training = encoder.training
    reference = next(encoder.parameters())
    try:
        with torch.inference_mode():
            encoder.eval()(torch.zeros(1, 3, size, size, dtype=reference.dtype, device=reference.device))
    finally:
        encoder.train(was_training)
        for hook in hooks:
            hook.remove()
    return Complexity(sum(p.numel() for p in encoder.parameters()), total)


def vision_state(encoder: VisionEncoder) -> dict[str, Tensor]:
    """The encoder's weights as float32 on the CPU, by torchvision name, without batch-norm counters."""
    return {
        key: value.detach().to("cpu", torch.float32).contiguous().clone()
        for key, value in encoder.state_dict().items()
        if not key.endswith(_COUNTER_SUFFIX)
    }


def vision_shapes(encoder: VisionEncoder) -> dict[str, tuple[int, ...]]:
    """Shapes of `vision_state` by name; also of an encoder on the meta device."""
    state = encoder.state_dict()
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith(_COUNTER_SUFFIX)}


def load_vision_state(encoder: VisionEncoder, state: Mapping[str, Tensor], *, where: str) -> None:
    """Copy weights into the encoder after checking them one by one.

    Args:
        encoder: the destination.
        state: tensors by torchvision name; batch-norm counters are ignored.
        where: the file's name, for the error.

    Raises:
        DetectorError: a tensor is missing, unknown, of another shape, or not finite.
    """
    given = {key: value for key, value in state.items() if not key.endswith(_COUNTER_SUFFIX)}
    check_tensors(given, vision_shapes(encoder), where=where)
    encoder.load_state_dict(given, strict=False)


def load_vision_weights(encoder: VisionEncoder, source: str) -> str:
    """Start from the weights of a file: an encoder run, a detector, or torchvision's names.

    A last layer ``fc`` of another shape, as of a classifier of objects, is left out: ours stays random.

    Args:
        encoder: the destination.
        source: a run's folder, a file, or ``hub:OWNER/NAME``.

    Returns:
        A line on what was taken from where.

    Raises:
        DetectorError: it cannot be read, or is no such network.
    """
    path = fetch(source) if source.startswith(HUB_PREFIX) else Path(source)
    weights = read_weights(path / "encoder.safetensors" if path.is_dir() else path)
    state = without_prefix(weights.tensors, VISION_PREFIX) or dict(weights.tensors)
    own = encoder.state_dict()
    left_out = ""
    if "fc.weight" in state and state["fc.weight"].shape != own["fc.weight"].shape:
        state |= {key: own[key] for key in ("fc.weight", "fc.bias")}
        left_out = ", the last layer random"
    load_vision_state(encoder, state, where=source)
    return f"{source} (SHA-256 {weights.sha256[:12]}){left_out}"


def check_tensors(
    given: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], *, where: str, prefix: str = ""
) -> None:
    """Raise DetectorError unless the tensors are exactly those wanted, floating and finite.

    Args:
        given: tensors by name.
        wanted: shapes by name.
        where: the file's name, for the error.
        prefix: put before names in the error.
    """
    for key in sorted(set(wanted) | set(given)):
        if key not in given:
            raise DetectorError(f"{where}: tensor {prefix + key!r} is missing")
        if key not in wanted:
            raise DetectorError(f"{where}: unexpected tensor {prefix + key!r}")
        tensor = given[key]
        if tuple(tensor.shape) != wanted[key]:
            raise DetectorError(
                f"{where}: tensor {prefix + key!r} has shape {list(tensor.shape)}, "
                f"expected {list(wanted[key])}"
            )
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise DetectorError(f"{where}: tensor {prefix + key!r} holds values that are not finite numbers")


def with_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same tensors with ``prefix`` before every name, as they stand in a file."""
    return {prefix + key: value for key, value in state.items()}


def without_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name starts with ``prefix``, without it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


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


def _initialise(module: nn.Module) -> None:
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


def _multiply_adds(module: nn.Module, output: Tensor) -> int:
    match module:
        case nn.Conv2d():
            return output.numel() * module.weight[0].numel()
        case nn.Linear():
            return output.numel() * module.in_features
        case nn.BatchNorm2d():
            return 4 * output.numel()
    return 0
