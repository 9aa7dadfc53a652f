"""Published weights come out as in the original; what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

from bladescan.base.errors import DetectorError
from bladescan.detectors.manifest import METADATA_KEY, EncoderSpec, Manifest, TextEncoderSpec, encode_manifest
from bladescan.networks.text_encoders import TEXT_PREFIX, TextEncoder, text_state
from bladescan.networks.text_weights import load_text_weights
from tests.networks.small import FEW, NAMES, PROMPTS, alone, small


def hf_gpt2() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=4)
    return transformers.GPT2Model(config).double().eval()


def hf_clip() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPTextConfig(
        num_hidden_layers=2, hidden_size=32, num_attention_heads=4, intermediate_size=128, projection_dim=64
    )
    return transformers.CLIPTextModelWithProjection(config).double().eval()


def shaken(model: nn.Module) -> nn.Module:
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_gpt2_is_the_one_of_transformers(tmp_path, prefix):
    model = shaken(hf_gpt2())
    state = {prefix + key: value.float() for key, value in model.state_dict().items()}
    if prefix:
        state["lm_head.weight"] = state["transformer.wte.weight"].clone()
    save_file(state, tmp_path / "gpt2.safetensors")
    encoder = small("gpt2", PROMPTS, embedding_dim=32).float()
    line = load_text_weights(encoder, str(tmp_path / "gpt2.safetensors"))
    want = alone(model, "gpt2", lambda m, ids: m(ids).last_hidden_state[:, -1])
    assert_close(encoder(), want.float(), rtol=0, atol=1e-5)
    assert "sha256" in line and "random" not in line


def test_clip_is_the_one_of_transformers(tmp_path):
    model = shaken(hf_clip())
    state = {key: value.float() for key, value in model.state_dict().items()}
    state |= {"vision_model.embeddings.class_embedding": torch.zeros(3), "logit_scale": torch.zeros(())}
    torch.save(state, tmp_path / "pytorch_model.bin")
    encoder = small("clip", PROMPTS, embedding_dim=64).float()
    line = load_text_weights(encoder, str(tmp_path / "pytorch_model.bin"))
    assert line.endswith("text_fc random")
    with torch.no_grad():
        encoder.text_fc.weight.copy_(torch.eye(64))
        encoder.text_fc.bias.zero_()
    want = alone(model, "clip", lambda m, ids: m(ids).text_embeds)
    assert_close(encoder(), want.float(), rtol=0, atol=1e-5)


def openai_state(encoder: TextEncoder) -> dict[str, Tensor]:
    """A state dict as OpenAI's CLIP has it, in half precision, image side and all."""
    torch.manual_seed(7)
    state = {key: torch.randn_like(value) for key, value in text_state(encoder).items()}
    state = {key: value.half() for key, value in state.items() if not key.startswith("text_fc.")}
    state["token_embedding.weight"] = torch.randn(49408, encoder.width).half()
    return state | {
        "visual.conv1.weight": torch.zeros(2, 3, 3, 3),
        "logit_scale": torch.tensor(4.6),
        "input_resolution": torch.tensor(224),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    }


def test_openai_weights_are_taken_as_they_are(tmp_path):
    encoder = small("clip").float()
    kept = encoder.text_fc.weight.detach().clone()
    given = openai_state(encoder)
    torch.save(given, tmp_path / "clip.pth")
    load_text_weights(encoder, str(tmp_path / "clip.pth"))
    for key, value in text_state(encoder).items():
        if key == "token_embedding.weight":
            assert torch.equal(value, given[key][list(encoder.token_ids)].float())
        elif not key.startswith("text_fc."):
            assert torch.equal(value, given[key].float()), key
    assert torch.equal(encoder.text_fc.weight, kept)


def save_run(path: Path, encoder: TextEncoder, text: TextEncoderSpec | None) -> None:
    manifest = Manifest(name="run", encoder=EncoderSpec("resnet10", 8, 24), text=text)
    tensors = {TEXT_PREFIX + key: value for key, value in text_state(encoder).items()}
    tensors["vision.conv1.weight"] = torch.zeros(1)
    save_file(tensors, path, metadata={METADATA_KEY: encode_manifest(manifest)})


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_a_run_go_on_in_another_even_with_fewer_prompts(tmp_path, name):
    first = small(name).float()
    save_run(tmp_path / "encoder.safetensors", first, first.describe())
    second = small(name, FEW[1:]).float()
    load_text_weights(second, str(tmp_path))
    assert_close(second.double()(), first.double()()[1:], rtol=0, atol=1e-12)


def test_weights_of_a_run_that_never_read_these_words_are_refused(tmp_path):
    first = small("gpt2").float()
    save_run(tmp_path / "encoder.safetensors", first, first.describe())
    with pytest.raises(DetectorError, match="has no row for 69 tokens of these prompts"):
        load_text_weights(small("gpt2", PROMPTS).float(), str(tmp_path / "encoder.safetensors"))


def test_weights_of_a_run_that_does_not_say_what_they_are_are_refused(tmp_path):
    first = small("gpt2").float()
    save_run(tmp_path / "encoder.safetensors", first, None)
    with pytest.raises(DetectorError, match="does not say what its text encoder is"):
        load_text_weights(first, str(tmp_path / "encoder.safetensors"))


def without(key: str) -> Callable[[dict[str, Tensor]], None]:
    def spoil(state: dict[str, Tensor]) -> None:
        del state[key]

    return spoil


def with_tensor(key: str, value: Tensor) -> Callable[[dict[str, Tensor]], None]:
    def spoil(state: dict[str, Tensor]) -> None:
        state[key] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("ln_final.bias"), "tensor 'ln_final.bias' is missing"),
        (without("token_embedding.weight"), "has no text encoder of a known layout"),
        (with_tensor("extra", torch.zeros(1)), "unexpected tensor 'extra'"),
        (with_tensor("ln_final.bias", torch.zeros(3)), r"shape \[3\], expected \[32\]"),
        (with_tensor("ln_final.bias", torch.full((32,), torch.nan)), "not finite"),
        (
            with_tensor("token_embedding.weight", torch.zeros(9, 32)),
            r"shape \[9, 32\], expected \[49408, 32\]",
        ),
        (with_tensor("text_fc.weight", torch.zeros(24, 64)), "tensor 'text_fc.bias' is missing"),
        (with_tensor("transformer.resblocks.2.ln_1.bias", torch.zeros(32)), "unexpected tensor"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_in_one_line(tmp_path, spoil, message):
    encoder = small("clip").float()
    before = text_state(encoder)
    state = openai_state(encoder)
    spoil(state)
    torch.save(state, tmp_path / "clip.pth")
    with pytest.raises(DetectorError, match=message) as caught:
        load_text_weights(encoder, str(tmp_path / "clip.pth"))
    assert "\n" not in str(caught.value) and "clip.pth" in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in text_state(encoder).items())


def test_weights_of_the_other_family_are_refused(tmp_path):
    torch.save(openai_state(small("clip")), tmp_path / "clip.pth")
    with pytest.raises(DetectorError, match="has the text encoder 'clip', the recipe asks for 'gpt2'"):
        load_text_weights(small("gpt2"), str(tmp_path / "clip.pth"))
