import os

import numpy as np
import pytest
import torch

from bladescan.base.errors import DetectorError, OutputError
from bladescan.detectors.manifest import METADATA_KEY, decode_manifest
from bladescan.exporting import onnx as export
from bladescan.exporting.onnx import export_onnx
from bladescan.heads.detector import DetectorModule, load_detector, save_detector
from tests.tiny import bare_encoder, tiny_detector

onnx = pytest.importorskip("onnx")


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
def test_the_graph_computes_what_the_detector_does(tmp_path, covariance):
    report = export_onnx(tiny_detector(covariance), tmp_path / "d.onnx")
    assert report.embedding < 1e-5
    assert report.log_likelihood < 1e-5
    assert report.p_ai_generated < 1e-5
    assert report.scikit_learn < 1e-12
    assert report.same_for_every_batch_size
    onnx.checker.check_model(str(tmp_path / "d.onnx"), full_check=True)


@pytest.mark.parametrize("heads", [(), ("one-class",), ("binary",)])
def test_the_graph_has_the_outputs_that_the_detector_has(tmp_path, heads):
    detector = tiny_detector(heads=heads) if heads else bare_encoder()
    report = export_onnx(detector, tmp_path / "d.onnx")
    model = onnx.load(tmp_path / "d.onnx")
    expected = {"one-class": "log_likelihood", "binary": "p_ai_generated"}
    assert [o.name for o in model.graph.output] == [*(expected[h] for h in heads), "embedding"]
    assert (report.log_likelihood is not None) == ("one-class" in heads)
    assert (report.p_ai_generated is not None) == ("binary" in heads)
    assert [i.name for i in model.graph.input] == ["crops"]


def test_the_file_stands_alone_and_tells_nothing_of_the_machine(tmp_path, capfd):
    detector = tiny_detector()
    export_onnx(detector, tmp_path / "d.onnx")
    assert os.listdir(tmp_path) == ["d.onnx"]
    assert capfd.readouterr() == ("", "")
    model = onnx.load(tmp_path / "d.onnx", load_external_data=False)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert list(metadata) == [METADATA_KEY]
    assert decode_manifest(metadata[METADATA_KEY], where="d.onnx") == detector.manifest
    data = (tmp_path / "d.onnx").read_bytes()
    assert str(os.getcwd()).encode() not in data
    assert b".py" not in data


def test_the_graph_is_no_larger_than_the_detector(tmp_path):
    save_detector(tiny_detector(), tmp_path / "d.safetensors")
    export_onnx(load_detector(tmp_path / "d.safetensors"), tmp_path / "d.onnx")
    sizes = [(tmp_path / name).stat().st_size for name in ("d.onnx", "d.safetensors")]
    assert sizes[0] < 1.2 * sizes[1]  # the float64 heads are stored in float32


def test_a_graph_that_differs_is_not_kept(tmp_path, monkeypatch):
    (tmp_path / "d.onnx").write_text("what stood there")
    honest = export._to_onnx
    other = tiny_detector()
    other.vision["fc.bias"].add_(1.0)
    monkeypatch.setattr(export, "_to_onnx", lambda detector: honest(other))
    with pytest.raises(DetectorError, match="^d.onnx: the exported graph differs.*nothing was written"):
        export_onnx(tiny_detector(), tmp_path / "d.onnx")
    assert (tmp_path / "d.onnx").read_text() == "what stood there"
    assert os.listdir(tmp_path) == ["d.onnx"]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        export_onnx(bare_encoder(), tmp_path / "absent" / "d.onnx")


def test_exporting_leaves_the_detector_and_gradients_alone(tmp_path):
    detector = tiny_detector()
    before = {key: value.clone() for key, value in detector.vision.items()}
    export_onnx(detector, tmp_path / "d.onnx")
    assert torch.is_grad_enabled()
    assert all(torch.equal(before[key], value) for key, value in detector.vision.items())
    assert np.isfinite(DetectorModule(detector).encoder.fc.bias.detach().numpy()).all()
