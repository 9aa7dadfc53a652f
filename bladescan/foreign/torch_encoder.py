"""Weights of a known image encoder in safetensors to ONNX, by the package transformers, which knows them all.

No code of a stranger runs: the class is one of a short list, and what is read are tensors alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bladescan.base.errors import DetectorError, MissingDependencyError, RecipeError, UnknownNameError
from bladescan.detectors.onnx_metadata import import_onnx
from bladescan.foreign.layout import EncoderLayout, read_layout
from bladescan.foreign.onnx_graph import ForeignGraph, checked
from bladescan.networks.encoders import check_tensors
from bladescan.networks.torch_graph import torch_to_onnx
from bladescan.networks.weights import read_weights

ARCHITECTURES = {
    "CLIPVisionModelWithProjection": "CLIPVisionConfig",
    "Dinov2Model": "Dinov2Config",
    "Dinov2WithRegistersModel": "Dinov2WithRegistersConfig",
    "DINOv3ViTModel": "DINOv3ViTConfig",
    "SiglipVisionModel": "SiglipVisionConfig",
}
"""Classes of transformers that a recipe may name, and the class of their configuration."""

LAST = "picture_embedding"
"""Name of the output that is a vector of the whole picture."""

_INSTALL = "pip install 'bladescan[encoders]'"


def read_torch_encoder(path: Path, changes: Sequence[str] = ()) -> tuple[ForeignGraph, EncoderLayout]:
    """Read a safetensors file of a known layout and write it as ONNX.

    Args:
        path: of the file. What it holds besides the image side is passed over.
        changes: ``encoder.KEY=VALUE``; ``encoder.recipe`` names the layout where the checksum is not known.

    Returns:
        The graph, whose outputs are ``picture_embedding`` and the blocks of its transformer, ``block1``
        first, and what is known of it.

    Raises:
        DetectorError: a tensor is missing, of another shape, or not finite.
        MissingDependencyError: transformers is not installed.
        RecipeError: no recipe says what the file is.
    """
    weights = read_weights(path)
    layout = read_layout(path, weights.sha256, changes)
    if not layout.architecture or layout.input is None:
        raise RecipeError(
            f"{path.name}: no recipe lists its checksum: say what it is by --set encoder.recipe=NAME"
        )
    model = _model(layout, where=path.name)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    given = _image_side(weights.tensors, wanted)
    check_tensors(
        given, {key: wanted[key] for key in wanted if key in given or _counts(key)}, where=path.name
    )
    model.load_state_dict(given, strict=False)
    blocks = [f"block{i + 1}" for i in range(_n_blocks(layout))]
    example = torch.zeros(2, 3, layout.input, layout.input)
    data = torch_to_onnx(_HiddenStates(model), example, "pixels", [LAST, *blocks])
    network = import_onnx("a foreign network").load_from_string(data)
    return checked(ForeignGraph(network, weights.sha256, path.name)), _with_output(layout)


def _model(layout: EncoderLayout, *, where: str) -> nn.Module:
    """Make the network of a recipe, with random weights."""
    try:
        import transformers
    except ImportError as exc:
        raise MissingDependencyError("--encoder torch:FILE", "transformers", _INSTALL) from exc
    if layout.architecture not in ARCHITECTURES:
        raise UnknownNameError("architecture", layout.architecture, ARCHITECTURES)
    if not hasattr(transformers, layout.architecture):
        raise DetectorError(f"{where}: needs a newer transformers for {layout.architecture}: {_INSTALL}")
    config = getattr(transformers, ARCHITECTURES[layout.architecture])(**layout.config)
    config._attn_implementation = "eager"
    model: nn.Module = getattr(transformers, layout.architecture)(config)
    return model.eval()


def _image_side(tensors: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """Take what the network has, whatever prefix published files put before it."""
    found = {}
    for key in wanted:
        inner = key.partition(".")[2]
        name = next((name for name in (key, inner, f"vision_model.{key}") if name in tensors), None)
        if name is not None:
            found[key] = tensors[name].float()
    return found


def _counts(key: str) -> bool:
    """Tell the tensors that a file must have from those that are no weights or that nothing reads."""
    return not key.endswith(("position_ids", "mask_token"))


def _n_blocks(layout: EncoderLayout) -> int:
    return int(layout.config["num_hidden_layers"])


def _with_output(layout: EncoderLayout) -> EncoderLayout:
    return layout if layout.output else replace(layout, output=(LAST,))


class _HiddenStates(nn.Module):
    """The vector of the whole picture, and what each block gives to the next."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found = self.model(pixel_values=pixels, output_hidden_states=True, return_dict=True)
        vector = found.image_embeds if "image_embeds" in found else found.pooler_output
        return (vector, *found.hidden_states[1:])
