"""SDAIE's encoder: its tiles, what it does not depend on, and the same numbers in every runtime."""

import pytest
import torch

from bladescan.detectors.manifest import Preprocessing
from bladescan.networks.encoders import new_vision_encoder
from bladescan.networks.sdaie import TILE, cut_tiles, tile_starts
from tests.networks.runtimes import check_runtime, export_encoder


def tiny_encoder():
    torch.manual_seed(0)
    return new_vision_encoder("sdaie", 8, 24).eval()


def pixels(n, side, seed=0):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", [64, 65, 128, 160, 192, 224, 256, 300])
def test_the_fewest_tiles_cover_a_side(length):
    starts = tile_starts(length)
    assert len(starts) == -(-length // TILE)
    assert set(range(length)) == {start + i for start in starts for i in range(TILE)}
    assert all(start % 8 == 0 for start in starts[:-1])


def test_a_side_below_a_tile_is_one_tile():
    assert tile_starts(40) == [0]
    assert cut_tiles(pixels(2, 40)).shape == (2, 1, 3, 40, 40)


def test_tiles_are_those_of_a_naive_loop():
    x = pixels(2, 224)
    starts = [0, 56, 104, 160]
    naive = [x[:, :, y : y + 64, z : z + 64] for y in starts for z in starts]
    got = cut_tiles(x)
    assert got.shape == (2, 16, 3, 64, 64)
    assert all(torch.equal(got[:, i], tile) for i, tile in enumerate(naive))


@torch.inference_mode()
def test_tiles_may_come_in_any_order():
    encoder, x = tiny_encoder(), pixels(2, 128)
    tiles = cut_tiles(x)
    order = [2, 0, 3, 1]
    rows = [torch.cat([tiles[:, order[2 * r + c]] for c in range(2)], 3) for r in range(2)]
    torch.testing.assert_close(encoder(torch.cat(rows, 2)), encoder(x), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_brightness_alone_changes_nothing():
    given = Preprocessing()
    levels = torch.randint(40, 200, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (given.mean, given.std))
    darker, brighter = ((levels + shift) / 255 / std - mean / std for shift in (0, 30))
    encoder = tiny_encoder()
    torch.testing.assert_close(encoder(darker), encoder(brighter), atol=1e-5, rtol=1e-4)


def test_every_weight_learns():
    encoder = tiny_encoder().train()
    encoder(pixels(4, 96)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_encoder("sdaie", tiny_encoder(), tmp_path_factory.mktemp("sdaie"))


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_every_runtime_gives_the_same_numbers_in_any_batch(runtime, exported):
    check_runtime(runtime, *exported)
