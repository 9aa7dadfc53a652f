from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close

from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.networks.text_encoders import TextEncoder
from bladescan.networks.tokenisers import VOCABULARIES, tokenise
from tests.networks.small import FEW, NAMES, PROMPTS, small


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
