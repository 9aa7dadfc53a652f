"""Folding changes nothing; half precision changes little and leaves the last layers alone."""

import pytest
import torch
from torch import nn

from bladescan.networks.encoders import new_vision_encoder
from bladescan.networks.low_precision import DTYPES, fold_batch_norms, lower


def lively_encoder(name):
    """Random weights, with batch norms that do something."""
    torch.manual_seed(0)
    encoder = new_vision_encoder(name, 8, 24)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return encoder.eval()


PIXELS = torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["resnet10", "resnet50", "efficientnet-lite0", "sdaie"])
@torch.inference_mode()
def test_folding_batch_norms_changes_no_embedding(name):
    encoder = lively_encoder(name)
    before = encoder(PIXELS)
    fold_batch_norms(encoder)
    assert not any(isinstance(m, nn.BatchNorm2d) for n, m in encoder.named_modules() if n != "norm")
    assert (encoder(PIXELS) - before).norm() <= 1e-5 * before.norm()


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", ["resnet10", "efficientnet-lite0", "sdaie"])
@torch.inference_mode()
def test_half_precision_is_near_and_its_embedding_is_float32(name, precision):
    encoder = lively_encoder(name)
    before = encoder(PIXELS)
    lower(encoder, DTYPES[precision])
    after = encoder(PIXELS)
    assert after.dtype == torch.float32
    assert {m.weight.dtype for m in encoder.modules() if isinstance(m, nn.Conv2d)} == {DTYPES[precision]}
    unit = torch.finfo(DTYPES[precision]).eps
    assert 0 < (after - before).norm() <= 8 * unit * before.norm()
