import pytest
import torch
from torch import nn

from bladescan.base.errors import DetectorError
from bladescan.detectors.manifest import Preprocessing
from bladescan.networks.efficientnet import EfficientNetLite, SamePadConv, moments, timm_names
from bladescan.networks.encoders import load_vision_weights, new_vision_encoder, vision_state
from bladescan.training.distributed import World, share_batch_norms

STAGES = [(3, 16, 1), (3, 24, 2), (5, 40, 2), (3, 80, 3), (5, 112, 3), (5, 192, 4), (3, 320, 1)]


def trunk_parameters():
    total, n_in = 3 * 32 * 9 + 2 * 32, 32
    for index, (kernel, channels, depth) in enumerate(STAGES):
        for _ in range(depth):
            wide = n_in if index == 0 else 6 * n_in
            total += 0 if index == 0 else n_in * wide + 2 * wide
            total += kernel * kernel * wide + 2 * wide + wide * channels + 2 * channels
            n_in = channels
    return total


def test_the_trunk_has_the_published_parameter_count():
    # 4,652,008 of EfficientNet-Lite0, less its head (320 x 1280 and a batch norm) and classifier.
    assert trunk_parameters() == 4_652_008 - 320 * 1280 - 2 * 1280 - (1280 * 1000 + 1000)
    with torch.device("meta"):
        encoder = new_vision_encoder("efficientnet-lite0", 32, 768)
    described = 2 * (24 + 40 + 80 + 112 + 192 + 320)
    own = 2 * described + 768 * described + 768
    assert sum(p.numel() for p in encoder.parameters()) == trunk_parameters() + own


@pytest.mark.parametrize(
    ("side", "kernel", "stride"), [(8, 3, 2), (9, 3, 2), (8, 5, 2), (7, 5, 1), (8, 3, 1)]
)
def test_same_padding_is_that_of_a_naive_loop(side, kernel, stride):
    torch.manual_seed(0)
    conv = SamePadConv(1, 1, kernel, stride, bias=False)
    x = torch.randn(1, 1, side, side)
    n_out = -(-side // stride)
    before = max((n_out - 1) * stride + kernel - side, 0) // 2  # what is odd goes behind
    expected = torch.zeros(n_out, n_out)
    for i in range(n_out):
        for j in range(n_out):
            for a in range(kernel):
                for b in range(kernel):
                    y, z = i * stride + a - before, j * stride + b - before
                    if 0 <= y < side and 0 <= z < side:
                        expected[i, j] += x[0, 0, y, z] * conv.weight[0, 0, a, b]
    torch.testing.assert_close(conv(x)[0, 0].detach(), expected.detach(), atol=1e-5, rtol=1e-5)


def test_the_published_weights_see_the_pixels_that_they_were_trained_on():
    encoder = EfficientNetLite("efficientnet-lite0", 8, 4)
    given = Preprocessing()
    pixels = torch.tensor([0.0, 127.0, 255.0]).repeat(3, 1)  # [channel, pixel]
    normalised = (pixels / 255 - torch.tensor(given.mean)[:, None]) / torch.tensor(given.std)[:, None]
    seen = normalised[:, :, None] * encoder.input_scale + encoder.input_shift
    torch.testing.assert_close(seen[..., 0], (pixels - 127) / 128, atol=1e-5, rtol=1e-5)


def test_features_are_means_and_deviations_of_every_stage_but_the_first():
    torch.manual_seed(0)
    encoder = EfficientNetLite("efficientnet-lite0", 8, 4).eval()
    x = torch.randn(2, 3, 64, 64)
    stages = []
    hooks = [stage.register_forward_hook(lambda m, i, out: stages.append(out)) for stage in encoder.blocks]
    with torch.no_grad():
        got = encoder.features(x)
    for hook in hooks:
        hook.remove()
    naive = torch.cat(
        [part for y in stages[1:] for part in (y.mean((2, 3)), (y.var((2, 3), correction=0) + 1e-3).sqrt())],
        1,
    )
    naive = naive / (1 + encoder.norm.eps) ** 0.5  # batch norm as it starts: mean 0, variance 1
    torch.testing.assert_close(got, naive, atol=1e-4, rtol=1e-4)


def published(encoder, n_classes=5):
    """The state of a classifier of objects over the same trunk, by timm's names."""
    state = {k: torch.rand_like(v) for k, v in vision_state(encoder).items() if k[:3] not in ("fc.", "nor")}
    head = nn.Linear(7, n_classes).state_dict()
    state |= {f"classifier.{key}": value for key, value in head.items()}
    return state | {"conv_head.weight": torch.rand(7, 8, 1, 1), "bn2.weight": torch.rand(7)}


def underscored(state):
    """The same by the names of ``efficientnet_lite_pytorch``."""
    wide = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
            "conv_pwl": "_project_conv", "bn3": "_bn2"}  # fmt: skip
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    outer = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1",
             "classifier": "_fc"}  # fmt: skip
    starts = [sum(depth for _, _, depth in STAGES[:i]) for i in range(len(STAGES))]
    named = {}
    for key, value in state.items():
        head, *rest = key.split(".")
        if head == "blocks":
            stage, block, layer, *rest = rest
            layer = (first if stage == "0" else wide)[layer]
            named[".".join(["_blocks", str(starts[int(stage)] + int(block)), layer, *rest])] = value
        else:
            named[".".join([outer[head], *rest])] = value
    return named


@pytest.mark.parametrize("names", [dict, underscored])
def test_published_weights_fill_the_trunk_by_either_naming(tmp_path, names):
    encoder = new_vision_encoder("efficientnet-lite0", 8, 4)
    own = {k: v for k, v in vision_state(encoder).items() if k.startswith(("fc.", "norm."))}
    state = published(encoder)
    torch.save(names(state), tmp_path / "lite.pth")
    said = load_vision_weights(encoder, str(tmp_path / "lite.pth"))
    assert "the last layer random" in said
    loaded = vision_state(encoder)
    assert all(torch.equal(loaded[key], value) for key, value in state.items() if key in loaded)
    assert all(torch.equal(loaded[key], value) for key, value in own.items())
    assert set(loaded) == set(own) | set(timm_names(state))


def test_an_own_encoder_is_loaded_whole_and_a_damaged_one_is_refused(tmp_path):
    torch.manual_seed(1)
    first, second = (new_vision_encoder("efficientnet-lite0", 8, 4) for _ in range(2))
    torch.save(vision_state(first), tmp_path / "own.pth")
    assert "random" not in load_vision_weights(second, str(tmp_path / "own.pth"))
    assert all(torch.equal(vision_state(second)[k], v) for k, v in vision_state(first).items())
    torch.save({k: v for k, v in vision_state(first).items() if k != "fc.bias"}, tmp_path / "cut.pth")
    with pytest.raises(DetectorError, match="tensor 'fc.bias' is missing"):
        load_vision_weights(second, str(tmp_path / "cut.pth"))


def test_every_batch_norm_is_shared_between_processes():
    encoder = new_vision_encoder("efficientnet-lite0", 8, 4)
    share_batch_norms(encoder, World(0, 2))
    left = [m for m in encoder.modules() if type(m).__module__.startswith("torch.nn.modules.batchnorm")]
    assert left == [] and type(encoder.norm) is not nn.BatchNorm2d


def test_a_small_spread_around_a_large_mean_survives_mixed_precision():
    torch.manual_seed(0)
    x = (3 + 0.1 * torch.randn(2, 4, 32, 32)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        mean, deviation = moments(x)
    exact = x.double()
    torch.testing.assert_close(mean.double(), exact.mean((2, 3)), atol=1e-4, rtol=1e-4)
    expected = (exact.var((2, 3), correction=0) + 1e-3).sqrt()
    torch.testing.assert_close(deviation.double(), expected, atol=1e-4, rtol=1e-4)
