"""What is known of an encoder: a recipe, what lies beside its file, and what the user says, in this order."""

from __future__ import annotations

import json

import pytest

from bladescan.base.errors import RecipeError, UnknownNameError
from bladescan.foreign.layout import known_layouts, read_layout


def test_every_shipped_recipe_can_be_read_and_says_what_an_encoder_needs():
    known = known_layouts()
    assert {"clip-vit-b16", "clip-vit-l14", "dinov2-b14", "dinov3-b16", "siglip-b16"} <= set(known)
    for name, layout in known.items():
        assert layout.input and layout.mean and layout.std and layout.output and layout.licence, name
        assert layout.sha256, name


def test_a_file_with_a_known_checksum_needs_no_name(tmp_path):
    known = known_layouts()["clip-vit-b16-int8"]
    (sha256,) = known.sha256.values()
    assert read_layout(tmp_path / "renamed.onnx", sha256) == known
    assert read_layout(tmp_path / "renamed.onnx", "0" * 64).mean is None


def test_the_user_says_more_than_the_recipe(tmp_path):
    changes = [
        "encoder.recipe=siglip-b16",
        "encoder.output=a/b,c",
        "encoder.tokens=mean",
        "encoder.input=384",
    ]
    layout = read_layout(tmp_path / "x.onnx", "", changes)
    assert layout.output == ("a/b", "c") and layout.tokens == ("mean",) and layout.input == 384
    assert layout.mean == (0.5, 0.5, 0.5)
    assert read_layout(tmp_path / "x.onnx", "", ["encoder.mean=0.1,0.2,0.3"]).mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("folder", ["", "onnx"])
def test_the_hubs_own_file_of_preprocessing_is_used(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "crop_size": {"height": 384, "width": 384}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    layout = read_layout(tmp_path / folder / "model.onnx", "")
    assert (layout.mean, layout.std, layout.input) == ((0.1, 0.2, 0.3), (1, 1, 1), 384)


def test_all_mistakes_are_told_at_once(tmp_path):
    changes = ["encoder.meen=1,2,3", "encoder.std=1,2", "encoder.input=4", "inner.lr=1", "encoder.scale"]
    with pytest.raises(RecipeError) as caught:
        read_layout(tmp_path / "x.onnx", "", changes)
    for words in (
        "'encoder.meen' (did you mean 'mean'?)",
        "encoder.std",
        "keys of the encoder are encoder.KEY",
    ):
        assert words in str(caught.value)
    with pytest.raises(RecipeError, match="expected 8 to 2048 pixels"):
        read_layout(tmp_path / "x.onnx", "", ["encoder.input=4"])
    with pytest.raises(UnknownNameError, match="'clip'. .*Available: clip-vit-b16"):
        read_layout(tmp_path / "x.onnx", "", ["encoder.recipe=clip"])
