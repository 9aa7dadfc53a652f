"""Weights of a known layout become a graph that computes what transformers computes with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bladescan.base.errors import DetectorError, RecipeError
from bladescan.foreign import torch_encoder
from bladescan.foreign.layout import known_layouts
from bladescan.foreign.torch_encoder import ARCHITECTURES, LAST, read_torch_encoder
from bladescan.runtimes.onnx_session import open_session

transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
RECIPES = {
    "clip-vit-b16": {"intermediate_size": 64, "projection_dim": 16, "image_size": 32},
    "dinov2-b14": {"mlp_ratio": 2, "image_size": 48},
    "siglip-b16": {"intermediate_size": 64, "image_size": 32},
}


@pytest.fixture
def known(monkeypatch):
    """The shipped recipes, small."""
    layouts = {
        name: replace(layout, input=32, config=SMALL | RECIPES[name], output=())
        for name, layout in known_layouts().items()
        if name in RECIPES
    }
    monkeypatch.setattr(torch_encoder, "read_layout", lambda path, sha256, changes: layouts[changes[0]])
    return layouts


@pytest.mark.parametrize("name", RECIPES)
def test_the_graph_computes_what_transformers_does(tmp_path, known, name):
    layout = known[name]
    torch.manual_seed(0)
    config = getattr(transformers, ARCHITECTURES[layout.architecture])(**layout.config)
    model = getattr(transformers, layout.architecture)(config).eval()
    # As published: with other tensors beside those of the image side.
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file({**state, "text_model.weight": torch.zeros(3)}, tmp_path / "m.safetensors")
    network, found = read_torch_encoder(tmp_path / "m.safetensors", [name])
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        said = model(pixel_values=x, output_hidden_states=True)
    names = [LAST, "block1", "block2"]
    ours = open_session(network.model.SerializeToString()).run(names, {"pixels": x.numpy()})
    vector = said.image_embeds if "image_embeds" in said else said.pooler_output
    for one, other in zip(ours, (vector, *said.hidden_states[1:]), strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-4)
    assert found.output == (LAST,)


def test_a_file_that_lacks_a_tensor_or_that_nobody_knows_is_refused(tmp_path, known):
    layout = known["clip-vit-b16"]
    model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**layout.config))
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    missing = next(key for key in state if "layers.1" in key)
    save_file({key: value for key, value in state.items() if key != missing}, tmp_path / "m.safetensors")
    with pytest.raises(DetectorError, match="is missing"):
        read_torch_encoder(tmp_path / "m.safetensors", ["clip-vit-b16"])
    known["nothing"] = replace(layout, architecture="")
    with pytest.raises(RecipeError, match="no recipe lists its checksum"):
        read_torch_encoder(tmp_path / "m.safetensors", ["nothing"])
