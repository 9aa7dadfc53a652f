"""The graph from face crops to an embedding computes what the stranger's network does on the same pixels."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from PIL import Image

from bladescan.base.errors import DetectorError, UnknownNameError
from bladescan.fitting.fit_settings import FitSettings
from bladescan.fitting.heads_fit import FitFaces, fit_detector
from bladescan.foreign.detector_graph import detector_graph
from bladescan.foreign.encoder_graph import build_encoder_graph
from bladescan.foreign.encoders import load_foreign_encoder
from bladescan.foreign.fed_network import seeded
from bladescan.foreign.layout import EncoderLayout
from bladescan.foreign.onnx_graph import in_opset, read_graph, transformer_blocks
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.onnx_session import open_session
from bladescan.runtimes.registry import get_plugin
from tests.foreign.networks import CHANGES, MEAN, N_BLOCKS, SIDE, STD, WIDTH, save_convolution

LAYOUT = EncoderLayout(mean=MEAN, std=STD)


def embedded(data, crops):
    return open_session(data).run(["embedding"], {"crops": crops})[0]


def pixels_of(crops, side=SIDE):
    """What the network would be fed with in Python."""
    small = [
        np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.BICUBIC)) for crop in crops
    ]
    x = (np.asarray(small, np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2)


def built(path, *changes):
    return load_foreign_encoder(f"onnx:{path}", [*CHANGES, *changes])


def one_by_one(detector, crops):
    return np.concatenate([embedded(detector.graph, crop[None]) for crop in crops])


def test_blocks_are_found_and_pooled_as_in_the_network(vit):
    network, path = vit
    crops = seeded(3)
    detector = built(path, "encoder.output=block1,block3", "encoder.tokens=class,mean,deviation")
    with torch.no_grad():
        hidden = [x.numpy() for x in network.hidden(pixels_of(crops))]
    wanted = []
    for x in (hidden[0], hidden[2]):
        wanted += [x[:, 0], x[:, 1:].mean(1), x[:, 1:].std(1)]
    found = one_by_one(detector, crops)
    assert found.shape == (3, 6 * WIDTH) == (3, detector.manifest.encoder.embedding_dim)
    # A pixel may differ by one grey level from Pillow's.
    np.testing.assert_allclose(found, np.concatenate(wanted, 1), atol=0.05)
    error = np.square(found - np.concatenate(wanted, 1)).mean() ** 0.5
    assert error < 0.01


def test_pixels_of_the_size_that_the_network_takes_are_exact(tmp_path):
    weights = torch.from_numpy(save_convolution(tmp_path / "c.onnx", shape=("n", 3, 224, 224)))
    crops = seeded(3)
    x = torch.from_numpy(((crops / 255.0 - MEAN) / STD).astype(np.float32)).permute(0, 3, 1, 2)
    wanted = torch.relu(torch.conv2d(x, weights, stride=8)).mean((2, 3)).numpy()
    detector = built(tmp_path / "c.onnx")
    np.testing.assert_allclose(embedded(detector.graph, crops), wanted, atol=1e-5)


def test_the_outputs_of_the_graph_are_taken_together_unless_others_are_named(vit):
    network, path = vit
    crops = seeded(2)
    with torch.no_grad():
        picture, tokens = (x.numpy() for x in network(pixels_of(crops)))
    found = one_by_one(built(path), crops)
    wanted = np.concatenate([picture, tokens[:, 0], tokens[:, 1:].mean(1)], 1)
    assert np.square(found - wanted).mean() ** 0.5 < 0.01
    assert built(path, "encoder.output=picture").manifest.encoder.embedding_dim == WIDTH


def test_what_no_output_needs_is_left_out(vit):
    first, all_of_it = (
        onnx.load_from_string(built(vit[1], f"encoder.output={name}").graph).graph
        for name in ("block1", "block-1")
    )
    assert len(first.node) < 0.6 * len(all_of_it.node)
    assert len(first.initializer) < len(all_of_it.initializer)


def test_blocks_of_a_transformer_are_those_that_it_has(vit):
    network, path = vit
    graph = read_graph(path)
    names = transformer_blocks(graph.model.graph)
    model = onnx.load(path)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    x = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    found = open_session(model.SerializeToString()).run(names, {"pixels": x.numpy()})
    with torch.no_grad():
        wanted = network.hidden(x)
    assert len(names) == N_BLOCKS
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)


def test_a_network_without_blocks_says_so(tmp_path, vit):
    save_convolution(tmp_path / "c.onnx")
    with pytest.raises(
        DetectorError, match="no transformer blocks are found in it, block2 is not among them"
    ):
        built(tmp_path / "c.onnx", "encoder.output=block2")
    with pytest.raises(DetectorError, match="3 transformer blocks .* block1 to block3"):
        built(vit[1], "encoder.output=block4")
    with pytest.raises(
        UnknownNameError, match=r"'tocens'. Did you mean 'tokens'\? Available: block1, block2"
    ):
        built(vit[1], "encoder.output=tocens")


@pytest.mark.parametrize("opset", [11, 13, 18, 20])
def test_a_map_of_features_has_a_mean_and_a_deviation_in_any_operator_set(tmp_path, opset):
    weights = torch.from_numpy(save_convolution(tmp_path / "c.onnx", opset=opset))
    detector = built(tmp_path / "c.onnx", "encoder.output=map", "encoder.tokens=mean,deviation")
    crops = seeded(2)
    maps = torch.relu(torch.conv2d(pixels_of(crops, 56), weights, stride=8)).numpy()
    wanted = np.concatenate([maps.mean((2, 3)), maps.std((2, 3))], 1)
    np.testing.assert_allclose(embedded(detector.graph, crops), wanted, atol=5e-3)


def test_channels_that_come_last_and_pixels_that_are_bytes(tmp_path):
    crops = seeded(2)
    weights = torch.from_numpy(
        save_convolution(tmp_path / "c.onnx", shape=("n", 224, 224, 3), dtype=TensorProto.UINT8)
    )
    detector = load_foreign_encoder(f"onnx:{tmp_path / 'c.onnx'}")
    x = torch.from_numpy(crops.astype(np.float32)).permute(0, 3, 1, 2)
    wanted = torch.relu(torch.conv2d(x, weights, stride=8)).mean((2, 3)).numpy()
    np.testing.assert_allclose(embedded(detector.graph, crops), wanted, rtol=1e-4)
    assert detector.manifest.provenance["encoder"]["channels"] == "last"


def test_half_precision_and_blue_first(tmp_path):
    crops = seeded(2)
    weights = torch.from_numpy(save_convolution(tmp_path / "c.onnx", dtype=TensorProto.FLOAT16))
    detector = built(tmp_path / "c.onnx", "encoder.bgr=true")
    x = pixels_of(crops[..., ::-1].copy(), 56)
    wanted = torch.relu(torch.conv2d(x, weights, stride=8)).mean((2, 3)).numpy()
    np.testing.assert_allclose(embedded(detector.graph, crops), wanted, atol=0.01)


def test_a_network_made_for_one_picture_runs_one_by_one(tmp_path):
    path = tmp_path / "c.onnx"
    save_convolution(path, shape=(1, 3, 56, 56))
    # As exporters write it: a shape with the batch in it.
    model = onnx.load(path)
    model.graph.node.pop()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 4]), "shape"))
    model.graph.node.append(onnx.helper.make_node("Reshape", ["pooled", "shape"], ["vector"]))
    onnx.save(model, path)
    assert built(path).manifest.encoder.batch == 1
    save_convolution(path)
    assert built(path).manifest.encoder.batch == 0


def test_tokens_first_and_crops_second_are_told_apart(tmp_path, vit):
    model = onnx.load(vit[1])
    model.graph.node.append(onnx.helper.make_node("Transpose", ["tokens"], ["turned"], perm=[1, 0, 2]))
    model.graph.output.append(onnx.ValueInfoProto(name="turned"))
    onnx.save(model, tmp_path / "turned.onnx")
    crops = seeded(2)
    ours = one_by_one(built(tmp_path / "turned.onnx", "encoder.output=turned"), crops)
    theirs = one_by_one(built(vit[1], "encoder.output=tokens"), crops)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_patches_without_a_class_token(tmp_path, vit):
    model = onnx.load(vit[1])
    for name, values in (("from", [1]), ("to", [99]), ("axis", [1])):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values), name))
    model.graph.node.append(onnx.helper.make_node("Slice", ["tokens", "from", "to", "axis"], ["patches"]))
    model.graph.output.append(onnx.ValueInfoProto(name="patches"))
    onnx.save(model, tmp_path / "p.onnx")
    assert built(tmp_path / "p.onnx", "encoder.output=patches").manifest.encoder.embedding_dim == WIDTH
    with pytest.raises(DetectorError, match="16 tokens are patches alone"):
        built(tmp_path / "p.onnx", "encoder.output=patches", "encoder.tokens=class")


def test_what_cannot_be_used_is_said(tmp_path, vit):
    path = tmp_path / "c.onnx"
    save_convolution(path)
    with pytest.raises(DetectorError, match="mean and deviation of its pixels are not known: give --set"):
        load_foreign_encoder(f"onnx:{path}")
    with pytest.raises(DetectorError, match="takes 56 pixels, encoder.input=64"):
        built(path, "encoder.input=64")
    save_convolution(path, opset=9)
    with pytest.raises(DetectorError, match="operator set 9; at least 11"):
        built(path)
    save_convolution(path, domain="their.own")
    with pytest.raises(DetectorError, match="custom operators of 'their.own', which are never loaded"):
        built(path)
    path.write_bytes(vit[1].read_bytes()[:1000])
    with pytest.raises(DetectorError, match="not a complete ONNX model"):
        built(path)
    with pytest.raises(DetectorError, match="cannot be read"):
        built(tmp_path / "absent.onnx")
    model = onnx.load(vit[1])
    model.graph.input.append(onnx.helper.make_tensor_value_info("text", TensorProto.INT64, [1, 7]))
    onnx.save(model, path)
    with pytest.raises(DetectorError, match="expected one input, for pixels; found pixels, text"):
        built(path)


def test_a_network_left_open_takes_the_size_that_is_said(tmp_path):
    path = tmp_path / "c.onnx"
    save_convolution(path, shape=("n", 3, "h", "w"))
    assert built(path).manifest.provenance["encoder"]["input"] == 224
    assert built(path, "encoder.input=64").manifest.provenance["encoder"]["input"] == 64
    graph = build_encoder_graph(read_graph(Path(path)), LAYOUT)
    assert graph.about["mean"] == list(MEAN) and graph.spec.embedding_dim == 4


@pytest.mark.parametrize("opset", [11, 13, 17, 18])
def test_openvino_gives_the_likelihoods_of_every_operator_set(tmp_path, opset):
    """In sets 13 to 17 OpenVINO reduces logarithms of sums over all axes: every crop had one likelihood."""
    pytest.importorskip("openvino")
    save_convolution(tmp_path / "c.onnx", opset=opset)
    rng, crops = np.random.default_rng(0), seeded(5)
    encoder = built(tmp_path / "c.onnx", "encoder.output=vector")
    faces = FitFaces(rng.normal(size=(90, 4)).astype(np.float32))
    detector = fit_detector(encoder, faces, FitSettings("diag", n_components=3))
    path = tmp_path / "d.onnx"
    path.write_bytes(detector_graph(detector))
    found = []
    for backend in ("onnx", "openvino"):
        with contextlib.closing(get_plugin(backend).open(path, BackendSettings(threads=1))) as opened:
            found.append(opened.score(crops).log_likelihood)
    assert found[0].shape == (5,) and len(set(found[0])) == 5
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3)


def test_a_conversion_that_changes_a_number_is_dropped(tmp_path, monkeypatch):
    weights = save_convolution(tmp_path / "c.onnx", opset=17)
    assert read_graph(tmp_path / "c.onnx").model.opset_import[0].version == 18
    converted = onnx.version_converter.convert_version

    def spoilt(model, opset):
        found = converted(model, opset)
        found.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(1.01 * weights, "weights"))
        return found

    monkeypatch.setattr(onnx.version_converter, "convert_version", spoilt)
    graph = read_graph(tmp_path / "c.onnx")
    assert graph.model.opset_import[0].version == 17
    with pytest.raises(DetectorError, match="cannot be converted to operator set 18"):
        in_opset(graph, 18)
