"""The distinct prefixes of some prompts: what a causal transformer has to compute of them, once each.

Causal attention lets a token see only what stands before it, so a token's state depends on its prefix alone,
and prompts that begin alike share the states of their beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bladescan.networks.tokenisers import tokenise


class PrefixTree(NamedTuple):
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


def prefix_tree(name: str, prompts: Sequence[str]) -> PrefixTree:
    """Lay the prompts out as a tree, in the tokens of a text encoder by its name.

    Raises:
        UsageError: a prompt is empty or longer than the context.
    """
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
        return PrefixTree(
            token_ids,
            torch.tensor([place[prefix[-1]] for prefix in nodes]),
            torch.tensor([len(prefix) - 1 for prefix in nodes]),
            torch.tensor([nodes[text] for text in texts]),
            mask,
        )
