import pytest
import torch
from safetensors.torch import load_file, save_file

from bladescan.base.errors import DetectorError, UnknownNameError
from bladescan.networks.encoders import (
    VISION_ENCODERS,
    VISION_PREFIX,
    complexity,
    load_vision_state,
    new_vision_encoder,
    vision_shapes,
    vision_state,
    with_prefix,
    without_prefix,
)


def bottleneck_parameters(n_in, width, downsample):
    out = 4 * width
    convolutions = n_in * width + 9 * width * width + width * out
    batch_norms = 2 * (width + width + out)
    return convolutions + batch_norms + (n_in * out + 2 * out if downsample else 0)


def test_resnet50_has_torchvisions_parameter_count():
    total, n_in = 3 * 64 * 49 + 2 * 64, 64
    for depth, width in zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True):
        for block in range(depth):
            total += bottleneck_parameters(n_in, width, downsample=block == 0)
            n_in = 4 * width
    assert total == 23_508_032  # torchvision's 25,557,032 less its fc of 2048 x 1000 + 1000
    with torch.device("meta"):
        encoder = new_vision_encoder("resnet50", 64, 768)
    assert sum(p.numel() for p in encoder.parameters()) == total + 2048 * 768 + 768


def test_resnet50_costs_the_papers_multiply_adds():
    cost = complexity(new_vision_encoder("resnet50", 64, 768))
    # 4,087.1 M in convolutions, 1.6 M in fc, four operations for each of 11.1 M normalised activations.
    normalised = 64 * 112**2
    for depth, width, side in zip((3, 4, 6, 3), (64, 128, 256, 512), (56, 28, 14, 7), strict=True):
        first_inner = width * (side if width == 64 else 2 * side) ** 2  # conv1 keeps the input's size
        normalised += first_inner + (depth - 1) * width * side**2  # conv1
        normalised += depth * (width + 4 * width) * side**2 + 4 * width * side**2  # conv2, conv3, shortcut
    assert cost.n_multiply_adds == 4_087_136_256 + 2048 * 768 + 4 * normalised
    assert round(cost.n_multiply_adds / 1e6) == 4133


@pytest.mark.parametrize("name", sorted(VISION_ENCODERS))
def test_every_encoder_embeds_images_of_any_size(name):
    encoder = new_vision_encoder(name, width=8, embedding_dim=5).eval()
    with torch.inference_mode():
        for side in (33, 224):
            assert encoder(torch.zeros(2, 3, side, side)).shape == (2, 5)


def test_keys_are_those_of_torchvision():
    keys = set(vision_shapes(new_vision_encoder("resnet50", 8, 5)))
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.downsample.1.bias", "layer4.2.conv3.weight"} < keys
    assert {key.partition(".")[0] for key in keys} == {
        "conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc",
    }  # fmt: skip
    assert "layer1.0.downsample.0.weight" not in vision_shapes(new_vision_encoder("resnet18", 8, 5))


def test_a_functional_call_with_other_parameters_leaves_the_encoder_alone():
    encoder = new_vision_encoder("resnet10", 8, 5)
    before = vision_state(encoder)
    state = {key: torch.zeros_like(value) for key, value in encoder.named_parameters()}
    buffers = {key: value.clone() for key, value in encoder.named_buffers()}
    out = torch.func.functional_call(encoder, (state, buffers), (torch.ones(2, 3, 32, 32),))
    assert (out == 0).all()
    assert all(torch.equal(before[key], value) for key, value in vision_state(encoder).items())


def test_weights_survive_a_file(tmp_path):
    torch.manual_seed(0)
    first, second = new_vision_encoder("resnet10", 8, 5).eval(), new_vision_encoder("resnet10", 8, 5).eval()
    save_file(with_prefix(vision_state(first), VISION_PREFIX), tmp_path / "e.safetensors")
    state = without_prefix(load_file(tmp_path / "e.safetensors"), VISION_PREFIX)
    load_vision_state(second, state, where="e")
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("fc.bias"), "tensor 'fc.bias' is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "unexpected tensor 'extra'"),
        (lambda s: s.update({"fc.bias": torch.zeros(6)}), r"'fc.bias' has shape \[6\], expected \[5\]"),
        (lambda s: s["fc.bias"].fill_(float("nan")), "'fc.bias' has values that are not finite"),
    ],
)
def test_wrong_weights_are_named(change, message):
    encoder = new_vision_encoder("resnet10", 8, 5)
    state = vision_state(encoder)
    change(state)
    with pytest.raises(DetectorError, match=f"^w: .*{message}"):
        load_vision_state(encoder, state, where="w")


def test_an_unknown_encoder_is_told_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet50'"):
        new_vision_encoder("resnet500")


def test_complexity_leaves_mode_and_hooks_alone():
    encoder = new_vision_encoder("resnet10", 8, 5)
    assert complexity(encoder) == complexity(encoder)
    assert encoder.training
    assert int(encoder.bn1.num_batches_tracked) == 0


@pytest.mark.parametrize("name", ["resnet10", "resnet50"])
def test_branches_that_start_at_zero_add_nothing_but_their_shortcut(name):
    torch.manual_seed(0)
    encoder = new_vision_encoder(name, 8, 16, zero_init=True).eval()
    block = encoder.layer1[-1] if name == "resnet50" else encoder.layer1[0]
    x = torch.rand(1, block.conv1.in_channels, 8, 8)
    assert torch.equal(block(x), x)
    last = "bn3" if name == "resnet50" else "bn2"
    assert all(not p.any() for key, p in encoder.named_parameters() if f"{last}.weight" in key)
    assert new_vision_encoder(name, 8, 16).layer1[0].bn2.weight.all()
