"""GramNet: Gram matrices as the formula has them, and the same numbers in every runtime."""

import pytest
import torch
from safetensors.torch import save_file

from bladescan.networks.encoders import load_vision_weights, new_vision_encoder, vision_state
from bladescan.networks.gramnet import GramBlock, gram_matrix
from tests.networks.runtimes import check_runtime, export_encoder
from tests.networks.test_sdaie import pixels


def tiny_encoder():
    torch.manual_seed(0)
    return new_vision_encoder("gramnet", 8, 24).eval()


def test_a_gram_matrix_is_that_of_a_naive_loop():
    x = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = torch.zeros(2, 4, 4, dtype=torch.float64)
    for n in range(2):
        for i in range(4):
            for j in range(4):
                for y in range(3):
                    for z in range(5):
                        wanted[n, i, j] += x[n, i, y, z] * x[n, j, y, z] / 15
    torch.testing.assert_close(gram_matrix(x), wanted)


def test_a_gram_matrix_does_not_know_where_texture_is():
    x = pixels(2, 16)
    places = torch.randperm(256, generator=torch.Generator().manual_seed(1))
    moved = x.flatten(2)[:, :, places].unflatten(2, (16, 16))
    torch.testing.assert_close(gram_matrix(moved), gram_matrix(x))
    assert gram_matrix(torch.cat([x, x], 2)).allclose(gram_matrix(x), atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize(("n_in", "side"), [(3, 224), (64, 56), (256, 7), (8, 1)])
def test_a_block_gives_so_many_numbers_whatever_the_map(n_in, side):
    assert GramBlock(n_in).eval()(torch.randn(2, n_in, side, side)).shape == (2, 32)


@torch.inference_mode()
def test_six_maps_are_described_beside_the_means_of_the_last_stage():
    encoder, x = tiny_encoder(), pixels(2, 96)
    seen = []
    for block in encoder.gram:
        block.align.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[1:])))
    features = encoder.features(x)
    assert seen == [(3, 96, 96), (8, 48, 48), (8, 24, 24), (8, 24, 24), (16, 12, 12), (32, 6, 6)]
    assert features.shape == (2, 64 + 6 * 32) and encoder(x).shape == (2, 24)
    torch.testing.assert_close(features[:, :64], encoder.maps(x)[-1].mean((2, 3)))


def test_every_weight_learns():
    encoder = tiny_encoder().train()
    encoder(pixels(4, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_it_starts_from_a_published_resnet(tmp_path):
    published = new_vision_encoder("resnet18", 8, 1000)
    save_file(vision_state(published), tmp_path / "resnet18.safetensors")
    encoder = tiny_encoder()
    before = vision_state(encoder)
    said = load_vision_weights(encoder, str(tmp_path / "resnet18.safetensors"))
    assert said.endswith("the last layer and gram random")
    after = vision_state(encoder)
    assert torch.equal(after["layer3.0.conv1.weight"], vision_state(published)["layer3.0.conv1.weight"])
    assert all(torch.equal(after[key], before[key]) for key in after if key.startswith(("gram.", "fc.")))
    assert any(key.startswith("gram.5.") for key in after)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_encoder("gramnet", tiny_encoder(), tmp_path_factory.mktemp("gramnet"))


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_every_runtime_gives_the_same_numbers_in_any_batch(runtime, exported):
    check_runtime(runtime, *exported)
