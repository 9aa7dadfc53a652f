"""The vision encoders by name, and their weights.

An encoder is weights and arithmetic: it knows no file but its own state, no photograph and no head. The
caller normalises the pixels and, where the detector asks for it, the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bladescan.base.errors import DetectorError, UnknownNameError
from bladescan.networks.efficientnet import EFFICIENTNETS, EfficientNetLite, timm_names
from bladescan.networks.gramnet import GRAMNET, GramNet
from bladescan.networks.resnet import RESNETS, ResNet
from bladescan.networks.sdaie import SDAIE, SdaieEncoder
from bladescan.networks.vision_encoder import VisionEncoder
from bladescan.networks.weights import HUB_PREFIX, fetch, read_weights

VISION_PREFIX = "vision."
"""Prefix of the vision encoder's tensors in safetensors files."""

_COUNTER_SUFFIX = "num_batches_tracked"
"""Batch-norm counters: torch ignores them while the momentum is set, so files go without them."""

VISION_ENCODERS = (*RESNETS, *EFFICIENTNETS, SDAIE, GRAMNET)
"""Names of all architectures."""


def new_vision_encoder(
    name: str = "resnet50", width: int = 64, embedding_dim: int = 768, *, zero_init: bool = False
) -> VisionEncoder:
    """Make a vision encoder with random weights.

    Args:
        name: one of `VISION_ENCODERS`.
        width: channels of the stem.
        embedding_dim: outputs of the last layer ``fc``.
        zero_init: of a ResNet or GramNet, start every residual branch at zero.

    Raises:
        UnknownNameError: no encoder is called ``name``.
    """
    if name in RESNETS:
        return ResNet(name, width, embedding_dim, zero_init=zero_init)
    if name in EFFICIENTNETS:
        return EfficientNetLite(name, width, embedding_dim)
    if name == SDAIE:
        return SdaieEncoder(width, embedding_dim)
    if name == GRAMNET:
        return GramNet(width, embedding_dim, zero_init=zero_init)
    raise UnknownNameError("vision encoder", name, VISION_ENCODERS)


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
    """Return an encoder's weights as float32 on the CPU, by torchvision name, without batch-norm counters."""
    return {
        key: value.detach().to("cpu", torch.float32).contiguous().clone()
        for key, value in encoder.state_dict().items()
        if not key.endswith(_COUNTER_SUFFIX)
    }


def vision_shapes(encoder: VisionEncoder) -> dict[str, tuple[int, ...]]:
    """List the shapes of `vision_state` by name; also of an encoder on the meta device."""
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

    What published weights have behind the trunk, a classifier of objects, is left out: ours stays random.

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
    if encoder.name in EFFICIENTNETS:
        state = timm_names(state)
    left_out = ""
    if _is_published(state, encoder):
        fresh = [key for key in vision_shapes(encoder) if _is_missing(key, state, encoder)]
        state |= {key: value for key, value in vision_state(encoder).items() if key in fresh}
        more = sorted({key.partition(".")[0] for key in fresh} - {"fc", "norm"})
        left_out = f", the last layer {''.join(f'and {name} ' for name in more)}random"
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
            raise DetectorError(f"{where}: tensor {prefix + key!r} has values that are not finite")


def with_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Put ``prefix`` before the name of every tensor, as in a file."""
    return {prefix + key: value for key, value in state.items()}


def without_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Select the tensors whose name starts with ``prefix``, and drop it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _is_published(state: Mapping[str, Tensor], encoder: VisionEncoder) -> bool:
    """Tell weights of a classifier of objects, whose last layer is of no use here."""
    if encoder.name in EFFICIENTNETS:
        return not any(key.startswith(encoder.own_layers) for key in state)
    return "fc.weight" in state and state["fc.weight"].shape != encoder.fc.weight.shape


def _is_missing(key: str, state: Mapping[str, Tensor], encoder: VisionEncoder) -> bool:
    """Tell what starts at random: the last layer, and layers of our own that the weights are without."""
    return key.startswith(encoder.own_layers) and (key.startswith("fc.") or key not in state)


def _multiply_adds(module: nn.Module, output: Tensor) -> int:
    match module:
        case nn.Conv2d():
            return output.numel() * module.weight[0].numel()
        case nn.Linear():
            return output.numel() * module.in_features
        case nn.BatchNorm2d():
            return 4 * output.numel()
    return 0
