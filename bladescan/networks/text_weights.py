"""Published weights of text encoders: GPT-2's, CLIP's and a run's, brought to our names and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bladescan.base.errors import DetectorError
from bladescan.detectors.manifest import METADATA_KEY, TextEncoderSpec, decode_manifest
from bladescan.networks.encoders import check_tensors, without_prefix
from bladescan.networks.prefix_tree import prefix_tree
from bladescan.networks.text_encoders import TEXT_PREFIX, TOKEN_TABLE, TextEncoder
from bladescan.networks.tokenisers import VOCABULARIES
from bladescan.networks.weights import HUB_PREFIX, Weights, fetch, read_weights


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
    if TOKEN_TABLE in state:
        state[TOKEN_TABLE] = _rows_of(
            state[TOKEN_TABLE], encoder, _held_ids(found, where=weights), where=weights
        )
    check_tensors(state, wanted, where=weights)
    encoder.load_state_dict(state, strict=False)
    return line


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
    """Bring the text encoder's tensors to our names, with the file's own token table; it checks no shape."""
    given = found.tensors
    if TEXT_PREFIX + TOKEN_TABLE in given:
        family, state = _family_of_run(found, where=where), without_prefix(given, TEXT_PREFIX)
    elif "wte.weight" in given or "transformer.wte.weight" in given:
        bare = {key.removeprefix("transformer."): value for key, value in given.items()}
        family, state = "gpt2", _from_gpt2(_without(bare, _GPT2_PASSED_OVER))
    elif "text_model.embeddings.token_embedding.weight" in given:
        family, state = "clip", _from_hf_clip(_without(given, _CLIP_PASSED_OVER))
    elif TOKEN_TABLE in given:
        family, state = "clip", _without(given, _OPENAI_PASSED_OVER)
    else:
        raise DetectorError(f"{where}: has no text encoder of a known layout (GPT-2, CLIP or a run's)")
    if family != name:
        raise DetectorError(f"{where}: has the text encoder {family!r}, the recipe asks for {name!r}")
    return state


def _family_of_run(found: Weights, *, where: str) -> str:
    text = _text_of_run(found, where=where)
    if text is None:
        raise DetectorError(f"{where}: its manifest does not say what its text encoder is")
    return text.name


def _text_of_run(found: Weights, *, where: str) -> TextEncoderSpec | None:
    if METADATA_KEY not in found.metadata:
        return None
    return decode_manifest(found.metadata[METADATA_KEY], where=where).text


def _held_ids(found: Weights, *, where: str) -> tuple[int, ...] | None:
    """List the ids of the rows of a run's token table; None for a whole vocabulary."""
    text = _text_of_run(found, where=where)
    return prefix_tree(text.name, text.prompts).token_ids if text is not None and text.prompts else None


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
    """Turn its layers, which are stored as [inputs, outputs]."""
    turned = re.compile(r".*(in_proj_weight|out_proj\.weight|c_fc\.weight|c_proj\.weight)")
    return {
        key: value.t() if turned.fullmatch(key) and value.ndim == 2 else value
        for key, value in _renamed(state, _GPT2_NAMES).items()
    }


def _from_hf_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join queries, keys and values, three layers there and one here, and turn the projection."""
    ours = _renamed(state, _CLIP_NAMES)
    if "text_projection" in ours and ours["text_projection"].ndim == 2:
        ours["text_projection"] = ours["text_projection"].t()
    for query in [key for key in ours if ".attn.q_proj." in key]:
        parts = [query.replace("q_proj", f"{letter}_proj") for letter in "qkv"]
        if all(part in ours and ours[part].shape == ours[query].shape for part in parts):
            joined = torch.cat([ours.pop(part) for part in parts])
            ours[query.replace("q_proj.", "in_proj_")] = joined
    return ours
