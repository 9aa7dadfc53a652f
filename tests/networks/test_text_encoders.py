from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close

from bladescan.base.errors import DetectorError, UnknownNameError, UsageError
from bladescan.detectors.manifest import METADATA_KEY, Encoder, Manifest, Text, encode_manifest
from bladescan.networks.text_encoders import TEXT_ENCODERS, TEXT_PREFIX, TextEncoder, text_state
from bladescan.networks.text_weights import load_text_weights
from bladescan.networks.tokenisers import VOCABULARIES, tokenise
from bladescan.tasks import pretext_tasks as tasks

PROMPTS = tasks.prompts(tasks.TASKS)
FEW = ("A photo of a photographic face", "A photo of a manipulated face", "A", "low ISO")
SHAPE = {"layers": 2, "width": 32, "heads": 4, "embedding_dim": 24}
NAMES = tuple(TEXT_ENCODERS)


def small(name: str, prompts: tuple[str, ...] = FEW, **more: int) -> TextEncoder:
    """A small encoder in float64 with every weight drawn, so that no term is hidden by a zero."""
    torch.manual_seed(3)
    encoder = TextEncoder(name, prompts, **(SHAPE | more)).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder


def padded(encoder: TextEncoder, length: int) -> Tensor:
    """The plain reading: every prompt padded to ``length``, a loop over heads, attention written out."""
    tokens = tokenise(encoder.name, encoder.prompts)
    ids = torch.full((len(encoder.prompts), length), encoder.token_ids[0])
    ids[:, : tokens.ids.shape[1]] = tokens.ids
    place = {token: row for row, token in enumerate(encoder.token_ids)}
    rows = torch.tensor([[place.get(token, 0) for token in row] for row in ids.tolist()])
    x = encoder.token_embedding.weight[rows] + encoder.positional_embedding[:length]
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    side = encoder.width // encoder.heads
    for block in encoder.transformer.resblocks:
        y = block.ln_1(x) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
        q, k, v = y.split(encoder.width, dim=-1)
        mixed = []
        for head in range(encoder.heads):
            part = slice(head * side, (head + 1) * side)
            scores = q[..., part] @ k[..., part].transpose(1, 2) / side**0.5
            mixed.append(scores.masked_fill(future, -torch.inf).softmax(-1) @ v[..., part])
        x = x + block.attn.out_proj(torch.cat(mixed, -1))
        x = x + block.mlp(block.ln_2(x))
    x = encoder.ln_final(x)[torch.arange(len(ids)), tokens.lengths - 1]
    if encoder.text_projection is not None:
        x = x @ encoder.text_projection
    return x if encoder.text_fc is None else encoder.text_fc(x)


def gradients(encoder: TextEncoder, embeddings: Tensor) -> dict[str, Tensor]:
    target = torch.linspace(-1, 1, embeddings.numel(), dtype=embeddings.dtype).view_as(embeddings)
    parameters = dict(encoder.named_parameters())
    found = torch.autograd.grad((embeddings * target).sum(), list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_prompts_give_what_they_give_padded_to_77_tokens(name):
    encoder = small(name, PROMPTS)
    assert_close(encoder(), padded(encoder, 77), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_prompts_padded_to_77_tokens(name):
    encoder = small(name)
    want = gradients(encoder, padded(encoder, 77))
    for key, value in gradients(encoder, encoder()).items():
        assert_close(value, want[key], rtol=1e-10, atol=1e-11, msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_each_prompt_gives_what_it_gives_alone(name):
    together = small(name)
    for row, prompt in enumerate(FEW):
        alone = small(name, (prompt,))
        state = together.state_dict()
        rows = [together.token_ids.index(token) for token in alone.token_ids]
        state["token_embedding.weight"] = state["token_embedding.weight"][rows]
        alone.load_state_dict(state)
        assert_close(alone()[0], together()[row], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_given_twice_gives_the_same_row_twice(name):
    embeddings = small(name, ("low ISO", "A", "low ISO"))()
    assert torch.equal(embeddings[0], embeddings[2])
    assert not torch.equal(embeddings[0], embeddings[1])


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient_but_positions_past_the_longest_prompt(name):
    encoder = small(name)
    longest = int(tokenise(name, FEW).lengths.max())
    for key, value in gradients(encoder, encoder()).items():
        if key == "positional_embedding":
            assert bool((value[longest:] == 0).all())
            value = value[:longest]
        if key.endswith("in_proj_bias"):  # a constant added to every key cancels in the softmax
            value = torch.cat([value[: encoder.width], value[2 * encoder.width :]])
        assert bool((value != 0).all()), key


@pytest.mark.parametrize("name", NAMES)
def test_functional_call_uses_the_parameters_given(name):
    encoder = small(name)
    moved = {key: value + 0.1 for key, value in encoder.named_parameters()}
    called = torch.func.functional_call(encoder, moved, ())
    encoder.load_state_dict(moved)
    assert torch.equal(called, encoder())


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_exist_where_the_attention_is_computed_plainly(name):
    encoder = small(name, FEW[:2], layers=1)
    bias = encoder.transformer.resblocks[0].ln_1.bias
    with sdpa_kernel(SDPBackend.MATH):
        (first,) = torch.autograd.grad(encoder().square().sum(), bias, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), bias)
    assert bool(second.isfinite().all()) and bool((second != 0).any())


@pytest.mark.parametrize("name", NAMES)
def test_embedding_draws_no_random_number_and_is_the_same_in_training(name):
    encoder = small(name)
    before = torch.get_rng_state()
    assert torch.equal(encoder.train()(), encoder.eval()())
    assert torch.equal(torch.get_rng_state(), before)


def test_defaults_have_the_published_numbers_of_parameters():
    """GPT-2 small has 124,439,808; CLIP-RN50's text side is counted here, and text_fc 1024 x 768 added."""
    clip = 12 * (12 * 512**2 + 13 * 512) + (49408 + 77) * 512 + 2 * 512 + 512 * 1024
    for name, published in (("gpt2", 124_439_808), ("clip", clip + 1024 * 768 + 768)):
        encoder = TextEncoder(name, FEW)
        n_rows_left_out = VOCABULARIES[name].size - len(encoder.token_ids)
        assert sum(p.numel() for p in encoder.parameters()) + n_rows_left_out * encoder.width == published


def test_gpt2_of_another_width_than_the_embedding_ends_in_a_linear_layer():
    assert small("gpt2", embedding_dim=32).text_fc is None
    assert small("gpt2")().shape == (4, 24)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_drawn_with_the_spreads_of_the_originals(name):
    torch.manual_seed(0)
    width, layers = 64, 3
    encoder = TextEncoder(name, PROMPTS, width=width, layers=layers)
    inner, hidden = (0.02, 0.02) if name == "gpt2" else (width**-0.5, (2 * width) ** -0.5)
    spreads = {
        "token_embedding.weight": 0.02,
        "positional_embedding": 0.02 if name == "gpt2" else 0.01,
        "transformer.resblocks.1.attn.in_proj_weight": inner,
        "transformer.resblocks.1.attn.out_proj.weight": inner / (2 * layers) ** 0.5,
        "transformer.resblocks.1.mlp.c_fc.weight": hidden,
        "transformer.resblocks.1.mlp.c_proj.weight": inner / (2 * layers) ** 0.5,
    }
    state = encoder.state_dict()
    for key, spread in spreads.items():
        assert_close(float(state[key].std()), spread, rtol=0.06, atol=0, msg=key)
    biases = [value for key, value in encoder.transformer.named_parameters() if key.endswith("bias")]
    assert not any(bool(bias.any()) for bias in biases)


def test_mistakes_in_the_shape_are_told():
    with pytest.raises(UnknownNameError, match="Did you mean 'gpt2'"):
        TextEncoder("gpt3", FEW)
    with pytest.raises(UsageError, match="width 30 is not a multiple of its 4 heads"):
        TextEncoder("clip", FEW, width=30, heads=4)


# Published weights


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


def alone(model: nn.Module, name: str, pool: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
    rows = [tokenise(name, [prompt]).ids for prompt in PROMPTS]
    with torch.no_grad():
        return torch.cat([pool(model, row) for row in rows])


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


def save_run(path: Path, encoder: TextEncoder, text: Text | None) -> None:
    manifest = Manifest(name="run", encoder=Encoder("resnet10", 8, 24), text=text)
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
