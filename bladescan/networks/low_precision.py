"""An encoder made to compute in half precision: batch norms folded away, the trunk's weights turned once.

Autocast would turn every weight again at every call. What describes the image stays in float32: the last
layers, and with them the embedding.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bladescan.networks.vision_encoder import VisionEncoder

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def fold_batch_norms(encoder: VisionEncoder) -> None:
    """Fold every batch norm that follows a convolution into it. In place; the encoder computes the same.

    Args:
        encoder: in evaluation mode.
    """
    for parent in list(encoder.modules()):
        for (name, layer), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(layer, norm))
                setattr(parent, norm_name, nn.Identity())


def lower(encoder: VisionEncoder, dtype: torch.dtype) -> None:
    """Have the trunk compute in ``dtype`` and ``encoder.float32_layers`` in float32. In place.

    Args:
        encoder: in evaluation mode, float32.
        dtype: one of `DTYPES`.
    """
    fold_batch_norms(encoder)
    for name, child in encoder.named_children():
        if name in encoder.float32_layers:
            child.register_forward_pre_hook(_float)
        else:
            child.to(dtype)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(_like_its_weight)


def _float(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    return tuple(x.float() for x in inputs)


def _like_its_weight(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return tuple(x.to(weight.dtype) for x in inputs)
