r"""The text encoders: GPT-2's and CLIP's transformers, from a fixed set of prompts to their embeddings.

Both are one network, a causal transformer with layer norms before attention and MLP; they differ in
vocabulary, activation and what follows the last layer. Causal attention lets a token see only what stands
before it, so a token's state depends on its prefix alone, and prompts that begin alike share the states of
their beginning. The encoder computes each distinct prefix once (a *node*): the fifty prompts of the eleven
tasks have 567 tokens for GPT-2 and 168 nodes, where padding to 77 would compute 3,850 tokens. Of the
vocabulary it holds the rows that its prompts use, for the others get no gradient.

Shape letters: n prompts, s nodes, w width, h heads. It normalises nothing and knows no image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from bladescan.base.errors import DetectorError, UnknownNameError, UsageError
from bladescan.detectors.manifest import METADATA_KEY, Text, decode_manifest
from bladescan.networks.encoders import check_tensors, without_prefix
from bladescan.networks.tokenisers import VOCABULARIES, tokenise
from bladescan.networks.weights import HUB_PREFIX, Weights, fetch, read_weights

TEXT_PREFIX = "head.text."
"""Prefix of the text encoder's tensors in the ``encoder.safetensors`` of a run."""

_TOKENS = "token_embedding.weight"
_HEAD_WIDTH = 64
"""States of one head in both published models."""


class _Layout(NamedTuple):
    """The published model; ``projects``: whether text_projection and text_fc follow the last layer norm."""

    layers: int
    width: int
    projects: bool


TEXT_ENCODERS: dict[str, _Layout] = {
    "gpt2": _Layout(layers=12, width=768, projects=False),
    "clip": _Layout(layers=12, width=512, projects=True),
}


class _Block(nn.Module):
    """Layer norm, attention, layer norm, MLP, each pair with a shortcut; CLIP's parameter names."""

    def __init__(self, width: int, heads: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = _Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = _Mlp(width, activation)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``[s, w]`` to ``[s, w]``; ``mask`` is bool ``[s, s]``, true where a node sees another."""
        x = x + self.attn(self.ln_1(x), mask)
        mixed: Tensor = x + self.mlp(self.ln_2(x))
        return mixed


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        projected = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = projected.view(len(x), 3, self.heads, -1).permute(1, 2, 0, 3)  # each [h, s, w / h]
        mixed = functional.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask)
        joined: Tensor = self.out_proj(mixed[0].transpose(0, 1).flatten(1))
        return joined


class _Mlp(nn.Module):
    def __init__(self, width: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)
        self._activation = activation

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.c_proj(self._activation(self.c_fc(x)))
        return mixed


class _Transformer(nn.Module):
    def __init__(self, layers: int, width: int, heads: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(width, heads, activation) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


def _gelu_tanh(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gpt2": _gelu_tanh, "clip": _quick_gelu}


class TextEncoder(nn.Module):
    """A transformer from its prompts to raw embeddings; weights are random until they are loaded.

    GPT-2 takes a prompt as it stands and pools the state of its last token: the first that has seen the
    whole prompt. CLIP puts it between a start and an end token and pools the end token, then multiplies by
    ``text_projection`` (twice the width, as in CLIP-RN50). A linear ``text_fc`` gives the embedding; GPT-2
    has none where its width is the embedding's.

    Parameters are called as in the authors' CLIP. There is no dropout, and nothing is drawn in `forward`.

    Args:
        name: a key of `TEXT_ENCODERS`.
        prompts: the texts, at least one.
        embedding_dim: length of an embedding.
        layers: blocks, None for the published number.
        width: of the states, a multiple of ``heads``; None for the published one.
        heads: of the attention; None for one to 64 of the width, as published, and at least 1.

    Attributes:
        token_ids: the vocabulary's ids of the rows of ``token_embedding``, ascending.

    Raises:
        UnknownNameError: no text encoder is called ``name``.
        UsageError: a prompt is empty or longer than the context, or the width is no multiple of the heads.

    References:
        Radford et al., "Language Models are Unsupervised Multitask Learners", 2019;
        Radford et al., arXiv:2103.00020.
    """

    _rows: Tensor
    _depths: Tensor
    _leaves: Tensor
    _mask: Tensor

    def __init__(
        self,
        name: str,
        prompts: Sequence[str],
        *,
        embedding_dim: int = 768,
        layers: int | None = None,
        width: int | None = None,
        heads: int | None = None,
    ) -> None:
        super().__init__()
        if name not in TEXT_ENCODERS:
            raise UnknownNameError("text encoder", name, TEXT_ENCODERS)
        published = TEXT_ENCODERS[name]
        width = published.width if width is None else width
        heads = max(1, width // _HEAD_WIDTH) if heads is None else heads
        if width % heads:
            raise UsageError(f"text encoder {name}: its width {width} is not a multiple of its {heads} heads")
        self.name, self.embedding_dim, self.prompts = name, embedding_dim, tuple(prompts)
        self.layers = published.layers if layers is None else layers
        self.width, self.heads = width, heads
        tree = _prefix_tree(name, prompts)
        self.token_ids = tree.token_ids
        self.register_buffer("_rows", tree.rows, persistent=False)
        self.register_buffer("_depths", tree.depths, persistent=False)
        self.register_buffer("_leaves", tree.leaves, persistent=False)
        self.register_buffer("_mask", tree.mask, persistent=False)
        self.token_embedding = nn.Embedding(len(tree.token_ids), width)
        self.positional_embedding = nn.Parameter(torch.empty(VOCABULARIES[name].context, width))
        self.transformer = _Transformer(self.layers, width, heads, _ACTIVATIONS[name])
        self.ln_final = nn.LayerNorm(width)
        n_out = 2 * width if published.projects else width
        self.text_projection = nn.Parameter(torch.empty(width, n_out)) if published.projects else None
        has_fc = published.projects or width != embedding_dim
        self.text_fc = nn.Linear(n_out, embedding_dim) if has_fc else None
        _initialise(self)

    def forward(self) -> Tensor:
        """Embed the prompts.

        Returns:
            Raw embeddings ``[n, embedding_dim]``, not normalised.
        """
        return self.embed(self.states())

    def states(self) -> Tensor:
        """What the published model says of each prompt: the pooled state, projected if it projects."""
        x = self.token_embedding(self._rows) + self.positional_embedding[self._depths]
        pooled: Tensor = self.ln_final(self.transformer(x, self._mask)[self._leaves])
        return pooled if self.text_projection is None else pooled @ self.text_projection

    def embed(self, states: Tensor) -> Tensor:
        """Raw embeddings ``[n, embedding_dim]`` of `states`."""
        embeddings: Tensor = states if self.text_fc is None else self.text_fc(states)
        return embeddings

    def describe(self) -> Text:
        """What a run's manifest says of it."""
        return Text(self.name, self.layers, self.width, self.heads, self.prompts)


def text_state(encoder: TextEncoder) -> dict[str, Tensor]:
    """The encoder's weights as float32 on the CPU; of the vocabulary the rows that its prompts use."""
    state = encoder.state_dict()
    return {key: value.detach().to("cpu", torch.float32).clone() for key, value in state.items()}


def published_shapes(name: str, embedding_dim: int) -> dict[str, tuple[int, ...]]:
    """Shapes by name of a published text encoder with its whole vocabulary, ending in ``embedding_dim``."""
    with torch.device("meta"):
        encoder = TextEncoder(name, ["a"], embedding_dim=embedding_dim)
    shapes = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    return shapes | {_TOKENS: (VOCABULARIES[name].size, encoder.width)}


def load_text_weights(encoder: TextEncoder, weights: str) -> str:
    """Copy published weights into the encoder after checking them one by one.

    It takes Hugging Face's GPT-2 and CLIP, OpenAI's CLIP, and the ``encoder.safetensors`` of a run. What a
    file holds besides the text encoder (CLIP's image side, GPT-2's tied output layer) is passed over. A
    file without ``text_fc``, which is no part of the published models, leaves it as it was drawn.

    Args:
        encoder: the destination.
        weights: a ``.safetensors``, ``.pth`` or ``.bin`` file, a run's folder, or ``hub:owner/name``.

    Returns:
        One line for the run's provenance: what was read, its SHA-256, and what stayed random.

    Raises:
        DetectorError: the file cannot be had or read, or a tensor is missing, unknown, of another shape, or
            not finite.
    """
    path = fetch(weights) if weights.startswith(HUB_PREFIX) else Path(weights)
    found = read_weights(path / "encoder.safetensors" if path.is_dir() else path)
    state = _canonical(found, encoder.name, where=weights)
    wanted = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    line = f"{weights}, sha256 {found.sha256}"
    if encoder.text_fc is not None and not any(key.startswith("text_fc.") for key in state):
        wanted = {key: shape for key, shape in wanted.items() if not key.startswith("text_fc.")}
        line += ", text_fc random"
    if _TOKENS in state:
        state[_TOKENS] = _rows_of(state[_TOKENS], encoder, _held_ids(found, where=weights), where=weights)
    check_tensors(state, wanted, where=weights)
    encoder.load_state_dict(state, strict=False)
    return line


class _Tree(NamedTuple):
    """Distinct prefixes of the prompts, parents before children.

    Attributes:
        token_ids: distinct ids, ascending.
        rows: ``[s]``, the place in ``token_ids`` of a prefix's last token.
        depths: ``[s]``, tokens before it.
        leaves: ``[n]``, the node that is the whole of a prompt.
        mask: bool ``[s, s]``, true where the column is a prefix of the row, or the row itself.
    """

    token_ids: tuple[int, ...]
    rows: Tensor
    depths: Tensor
    leaves: Tensor
    mask: Tensor


def _prefix_tree(name: str, prompts: Sequence[str]) -> _Tree:
    with torch.device("cpu"):  # the numbers are needed even where weights are made without memory
        tokens = tokenise(name, prompts)
        texts = [tuple(ids[:n].tolist()) for ids, n in zip(tokens.ids, tokens.lengths, strict=True)]
        prefixes = dict.fromkeys(text[:stop] for text in texts for stop in range(1, len(text) + 1))
        nodes = {prefix: node for node, prefix in enumerate(prefixes)}
        mask = torch.zeros(len(nodes), len(nodes), dtype=torch.bool)
        for prefix, node in nodes.items():
            mask[node, [nodes[prefix[:stop]] for stop in range(1, len(prefix) + 1)]] = True
        token_ids = tuple(sorted({prefix[-1] for prefix in nodes}))
        place = {token: row for row, token in enumerate(token_ids)}
        return _Tree(
            token_ids,
            torch.tensor([place[prefix[-1]] for prefix in nodes]),
            torch.tensor([len(prefix) - 1 for prefix in nodes]),
            torch.tensor([nodes[text] for text in texts]),
            mask,
        )


@torch.no_grad()
def _initialise(encoder: TextEncoder) -> None:
    """Draw the weights as the originals do: normal with these spreads; ``text_fc`` keeps PyTorch's own."""
    width, depth = encoder.width, 2 * max(encoder.layers, 1)
    if encoder.name == "gpt2":
        positions = inner = hidden = 0.02
        outer = inner * depth**-0.5
    else:
        positions, inner, hidden = 0.01, width**-0.5, (2 * width) ** -0.5
        outer = inner * depth**-0.5
    encoder.token_embedding.weight.normal_(std=0.02)
    encoder.positional_embedding.normal_(std=positions)
    for key, value in encoder.transformer.named_parameters():
        if key.endswith("bias"):
            value.zero_()
        elif key.endswith("in_proj_weight"):
            value.normal_(std=inner)
        elif key.endswith("c_fc.weight"):
            value.normal_(std=hidden)
        elif key.endswith("proj.weight"):  # what is added to a shortcut
            value.normal_(std=outer)
    if encoder.text_projection is not None:
        encoder.text_projection.normal_(std=width**-0.5)


# Published layouts


_GPT2_NAMES = (
    (r"^wte\.", "token_embedding."),
    (r"^wpe\.weight$", "positional_embedding"),
    (r"^ln_f\.", "ln_final."),
    (r"^h\.", "transformer.resblocks."),
    (r"\.attn\.c_attn\.", ".attn.in_proj_"),
    (r"\.attn\.c_proj\.", ".attn.out_proj."),
)
_GPT2_PASSED_OVER = r"lm_head\.weight|h\.\d+\.attn\.(bias|masked_bias)"  # tied to wte; causal masks
_CLIP_NAMES = (
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^text_projection\.weight$", "text_projection"),
    (r"\.self_attn\.", ".attn."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
_CLIP_PASSED_OVER = (
    r"vision_model\..*|visual_projection\.weight|logit_scale|text_model\.embeddings\.position_ids"
)
_OPENAI_PASSED_OVER = r"visual\..*|logit_scale|input_resolution|context_length|vocab_size"


def _canonical(found: Weights, name: str, *, where: str) -> dict[str, Tensor]:
    """The text encoder's tensors by our names, with the file's own token table; it checks no shape."""
    given = found.tensors
    if TEXT_PREFIX + _TOKENS in given:
        family, state = _family_of_run(found, where=where), without_prefix(given, TEXT_PREFIX)
    elif "wte.weight" in given or "transformer.wte.weight" in given:
        bare = {key.removeprefix("transformer."): value for key, value in given.items()}
        family, state = "gpt2", _from_gpt2(_without(bare, _GPT2_PASSED_OVER))
    elif "text_model.embeddings.token_embedding.weight" in given:
        family, state = "clip", _from_hf_clip(_without(given, _CLIP_PASSED_OVER))
    elif _TOKENS in given:
        family, state = "clip", _without(given, _OPENAI_PASSED_OVER)
    else:
        raise DetectorError(f"{where}: holds no text encoder of a layout known here (GPT-2, CLIP or a run's)")
    if family != name:
        raise DetectorError(f"{where}: holds the text encoder {family!r}, the recipe asks for {name!r}")
    return state


def _family_of_run(found: Weights, *, where: str) -> str:
    text = _text_of_run(found, where=where)
    if text is None:
        raise DetectorError(f"{where}: its manifest does not say what its text encoder is")
    return text.name


def _text_of_run(found: Weights, *, where: str) -> Text | None:
    if METADATA_KEY not in found.metadata:
        return None
    return decode_manifest(found.metadata[METADATA_KEY], where=where).text


def _held_ids(found: Weights, *, where: str) -> tuple[int, ...] | None:
    """The ids of the rows of a run's token table; None for a whole vocabulary."""
    text = _text_of_run(found, where=where)
    return _prefix_tree(text.name, text.prompts).token_ids if text is not None and text.prompts else None


def _rows_of(table: Tensor, encoder: TextEncoder, held: tuple[int, ...] | None, *, where: str) -> Tensor:
    ids = tuple(range(VOCABULARIES[encoder.name].size)) if held is None else held
    if tuple(table.shape) != (len(ids), encoder.width):
        raise DetectorError(
            f"{where}: the token table has shape {list(table.shape)}, expected [{len(ids)}, {encoder.width}]"
        )
    place = {token: row for row, token in enumerate(ids)}
    if lacking := [token for token in encoder.token_ids if token not in place]:
        raise DetectorError(
            f"{where}: has no row for {len(lacking)} tokens of these prompts: it learned from other prompts"
        )
    return table[[place[token] for token in encoder.token_ids]]


def _without(state: Mapping[str, Tensor], pattern: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not re.fullmatch(pattern, key)}


def _renamed(state: Mapping[str, Tensor], names: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    def rename(key: str) -> str:
        for pattern, ours in names:
            key = re.sub(pattern, ours, key)
        return key

    return {rename(key): value for key, value in state.items()}


def _from_gpt2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Its layers are stored as [inputs, outputs]."""
    turned = re.compile(r".*(in_proj_weight|out_proj\.weight|c_fc\.weight|c_proj\.weight)")
    return {
        key: value.t() if turned.fullmatch(key) and value.ndim == 2 else value
        for key, value in _renamed(state, _GPT2_NAMES).items()
    }


def _from_hf_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values are three layers there, one here; the projection is turned."""
    ours = _renamed(state, _CLIP_NAMES)
    if "text_projection" in ours and ours["text_projection"].ndim == 2:
        ours["text_projection"] = ours["text_projection"].t()
    for query in [key for key in ours if ".attn.q_proj." in key]:
        parts = [query.replace("q_proj", f"{letter}_proj") for letter in "qkv"]
        if all(part in ours and ours[part].shape == ours[query].shape for part in parts):
            joined = torch.cat([ours.pop(part) for part in parts])
            ours[query.replace("q_proj.", "in_proj_")] = joined
    return ours
