"""Detectors in 8-bit integers: what computes in them, and that verdicts stay."""

import sys

import numpy as np
import pytest

from bladescan.base.errors import DetectorError, MissingDependencyError
from bladescan.exporting.quantisation import Int8Exporter, quantise
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
from tests.once import exported
from tests.tiny import faces_like, tiny_detector

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module", name="exported")
def exported_tiny():
    return exported("tiny")


@pytest.fixture(scope="module")
def lowered(exported):
    return quantise(exported, faces_like(40), where="tiny")


def scores(data, tmp_path, x, name="onnx", threads=0):
    (tmp_path / "d.onnx").write_bytes(data)
    return get_plugin(name).open(tmp_path / "d.onnx", BackendSettings("cpu", threads)).score(x)


def test_every_convolution_but_the_first_computes_in_integers_and_no_head_does(lowered):
    model = onnx.load_from_string(lowered[0])
    made_by = {output: node for node in model.graph.node for output in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 8
    for node in convolutions[:4]:
        assert node.input[1] not in made_by  # its weights
    for node in convolutions[4:]:
        assert [made_by[name].op_type for name in node.input] == ["DequantizeLinear"] * len(node.input)
    heads = onnx.utils.Extractor(model).extract_model(["embedding"], ["log_likelihood", "p_ai_generated"])
    assert not [node.op_type for node in heads.graph.node if "Linear" in node.op_type]


def test_weights_are_signed_with_a_scale_for_each_channel_and_activations_unsigned(lowered):
    model = onnx.load_from_string(lowered[0])
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    dequantised = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    kernels = [(values[n.input[0]], values[n.input[1]]) for n in dequantised if n.input[0] in values]
    kernels = [(kernel, scale) for kernel, scale in kernels if kernel.ndim == 4]
    assert len(kernels) == sum(node.op_type == "Conv" for node in model.graph.node) - 4
    for kernel, scale in kernels:
        assert kernel.dtype.name == "int8"
        assert scale.shape == (len(kernel),)
    quantised = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert {values[node.input[2]].dtype.name for node in quantised} == {"uint8"}


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_the_file_is_a_detector_of_every_backend_that_opens_onnx(exported, lowered, tmp_path, name):
    if get_plugin(name).status().version is None:
        pytest.skip(f"{name} is not installed")
    x = faces_like(9, seed=1)
    before, after = scores(exported, tmp_path, x), scores(lowered[0], tmp_path, x, name)
    error = np.linalg.norm(after.embedding - before.embedding) / np.linalg.norm(before.embedding)
    assert 0 < error < 0.1
    np.testing.assert_allclose(after.p_ai_generated, before.p_ai_generated, atol=0.05)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_rows_are_the_same_bits_whatever_batch_and_threads(lowered, tmp_path, name):
    if get_plugin(name).status().version is None:
        pytest.skip(f"{name} is not installed")
    x = faces_like(7, seed=2)
    whole = scores(lowered[0], tmp_path, x, name, threads=1)
    for size in (1, 3):
        parts = [scores(lowered[0], tmp_path, x[i : i + size], name, threads=2) for i in range(0, 7, size)]
        for values, rows in zip(whole[:3], zip(*(part[:3] for part in parts), strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(rows), values)


def test_the_report_is_of_crops_that_set_no_range(exported, lowered, tmp_path):
    data, report = lowered
    assert (report.n_calibrating, report.n_compared) == (20, 20)
    calibrating = np.linspace(0, 39, 20).astype(int)
    x = np.delete(faces_like(40), calibrating, axis=0)
    before, after = scores(exported, tmp_path, x).embedding, scores(data, tmp_path, x).embedding
    error = np.sqrt(np.mean((after - before) ** 2) / np.mean(before**2))
    assert report.embedding == pytest.approx(error, rel=1e-4)
    assert set(report.same_verdict) == {"one-class", "binary"}


def test_the_manifest_says_that_it_is_int8_and_nothing_else_changed(exported, lowered, tmp_path):
    (tmp_path / "d.onnx").write_bytes(lowered[0])
    manifest = get_plugin("onnx").open(tmp_path / "d.onnx", BackendSettings("cpu")).manifest
    assert manifest.provenance["int8"]["n_compared"] == 20
    assert manifest.heads == tiny_detector().manifest.heads


def test_the_same_photographs_give_the_same_bytes(exported, lowered):
    assert quantise(exported, faces_like(40), where="tiny") == lowered


def test_a_bare_encoder_has_integers_but_no_verdicts(tmp_path):
    data, report = quantise(exported("bare"), faces_like(32), where="bare")
    assert report.same_verdict == {}
    assert scores(data, tmp_path, faces_like(2)).log_likelihood is None


def test_a_detector_that_would_change_its_mind_is_not_made(exported):
    with pytest.raises(
        DetectorError, match=r"% of 20 photographs keep the verdict of the \S+ head; at least 101% must"
    ):
        quantise(exported, faces_like(40), where="tiny", least_same=1.01)


def test_what_cannot_be_done_is_said_before_a_photograph_is_read(exported, lowered, monkeypatch):
    def cut(rule):
        raise AssertionError("a photograph was asked for")

    with pytest.raises(DetectorError, match="^of.onnx: is in 8-bit integers already"):
        Int8Exporter(lowered[0], cut, where="of.onnx").build()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match="needs onnx, which is not installed: pip install onnx"):
        Int8Exporter(exported, cut, where="of.onnx").build()
