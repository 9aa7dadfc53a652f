r"""The text encoders: GPT-2's and CLIP's transformers, from a fixed set of prompts to their embeddings.

Both are one causal transformer; they differ in vocabulary, activation and what follows the last layer. The
encoder computes each distinct prefix of its prompts once (a *node* of the `prefix_tree`): the fifty prompts
of the eleven tasks have 567 tokens for GPT-2 and 168 nodes, where padding to 77 would compute 3,850 tokens.
Of the vocabulary it holds the rows that its prompts use, for the others get no gradient.

Shape letters: n prompts, s nodes, w width. It normalises nothing and knows no image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.detectors.manifest import TextEncoderSpec
from bladescan.networks.prefix_tree import PrefixTree, prefix_tree
from bladescan.networks.tokenisers import VOCABULARIES
from bladescan.networks.transformer import ACTIVATIONS, Transformer

TEXT_PREFIX = "head.text."
"""Prefix of the text encoder's tensors in the ``encoder.safetensors`` of a run."""

TOKEN_TABLE = "token_embedding.weight"
"""Name of the tensor with a row per token."""

_HEAD_WIDTH = 64
"""States of one head in both published models."""


class PublishedText(NamedTuple):
    """A published text encoder.

    Attributes:
        layers: blocks.
        width: of the states.
        projects: whether text_projection and text_fc follow the last layer norm.
    """

    layers: int
    width: int
    projects: bool


TEXT_ENCODERS: dict[str, PublishedText] = {
    "gpt2": PublishedText(layers=12, width=768, projects=False),
    "clip": PublishedText(layers=12, width=512, projects=True),
}


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
        self.name, self.embedding_dim, self.prompts = name, embedding_dim, tuple(prompts)
        self.layers = published.layers if layers is None else layers
        self.width = published.width if width is None else width
        self.heads = max(1, self.width // _HEAD_WIDTH) if heads is None else heads
        if self.width % self.heads:
            raise UsageError(
                f"text encoder {name}: its width {self.width} is not a multiple of its {self.heads} heads"
            )
        self._keep(prefix_tree(name, prompts))
        self._add_layers(projects=published.projects)
        _initialise(self)

    def _keep(self, tree: PrefixTree) -> None:
        self.token_ids = tree.token_ids
        self.register_buffer("_rows", tree.rows, persistent=False)
        self.register_buffer("_depths", tree.depths, persistent=False)
        self.register_buffer("_leaves", tree.leaves, persistent=False)
        self.register_buffer("_mask", tree.mask, persistent=False)

    def _add_layers(self, *, projects: bool) -> None:
        width = self.width
        self.token_embedding = nn.Embedding(len(self.token_ids), width)
        self.positional_embedding = nn.Parameter(torch.empty(VOCABULARIES[self.name].context, width))
        self.transformer = Transformer(self.layers, width, self.heads, ACTIVATIONS[self.name])
        self.ln_final = nn.LayerNorm(width)
        n_out = 2 * width if projects else width
        self.text_projection = nn.Parameter(torch.empty(width, n_out)) if projects else None
        has_fc = projects or width != self.embedding_dim
        self.text_fc = nn.Linear(n_out, self.embedding_dim) if has_fc else None

    def forward(self) -> Tensor:
        """Embed the prompts.

        Returns:
            Raw embeddings ``[n, embedding_dim]``, not normalised.
        """
        return self.embed(self.states())

    def states(self) -> Tensor:
        """Compute each prompt's pooled state ``[n, w]``; ``[n, 2 w]`` where the model projects it."""
        x = self.token_embedding(self._rows) + self.positional_embedding[self._depths]
        pooled: Tensor = self.ln_final(self.transformer(x[None], self._mask)[0, self._leaves])
        return pooled if self.text_projection is None else pooled @ self.text_projection

    def embed(self, states: Tensor) -> Tensor:
        """Turn `states` into raw embeddings ``[n, embedding_dim]``."""
        embeddings: Tensor = states if self.text_fc is None else self.text_fc(states)
        return embeddings

    def describe(self) -> TextEncoderSpec:
        """Describe the encoder for a run's manifest."""
        return TextEncoderSpec(self.name, self.layers, self.width, self.heads, self.prompts)


def text_state(encoder: TextEncoder) -> dict[str, Tensor]:
    """Copy the encoder's weights to float32 on the CPU; of the vocabulary the rows that its prompts use."""
    state = encoder.state_dict()
    return {key: value.detach().to("cpu", torch.float32).clone() for key, value in state.items()}


def published_shapes(name: str, embedding_dim: int) -> dict[str, tuple[int, ...]]:
    """List the shapes by name of a published text encoder with its whole vocabulary."""
    with torch.device("meta"):
        encoder = TextEncoder(name, ["a"], embedding_dim=embedding_dim)
    shapes = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    return shapes | {TOKEN_TABLE: (VOCABULARIES[name].size, encoder.width)}


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
