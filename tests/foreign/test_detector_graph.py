"""Heads behind a stranger's encoder score what the same heads score in PyTorch, in any operator set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bladescan.base.errors import DetectorError
from bladescan.detectors.manifest import CalibratedHead
from bladescan.exporting.onnx import export_onnx
from bladescan.foreign.detector_graph import detector_graph
from bladescan.foreign.encoders import load_foreign_encoder
from bladescan.foreign.fed_network import seeded
from bladescan.heads.classifier import Classifier
from bladescan.heads.detector import Detector, DetectorHeads, save_detector
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.onnx_session import open_session
from bladescan.runtimes.registry import get_plugin
from tests.foreign.networks import CHANGES, save_convolution
from tests.tiny import tiny_mixture


def detector_over(path, covariance="full", hidden=8, changes=()):
    """Random heads over an encoder of d numbers."""
    from msgspec.structs import replace

    bare = load_foreign_encoder(f"onnx:{path}", [*CHANGES, *changes])
    d = bare.manifest.encoder.embedding_dim
    torch.manual_seed(3)
    head = CalibratedHead((-2.0, -1.0, 0.0), 3)
    manifest = replace(bare.manifest, heads={"one-class": head, "binary": head}, default_head="binary")
    mixture = tiny_mixture(covariance, d)
    return Detector(manifest, {}, mixture, Classifier(d, hidden).state_dict(), bare.graph)


@pytest.mark.parametrize("opset", [11, 17, 20])
@pytest.mark.parametrize(("covariance", "hidden"), [("full", 8), ("tied", 0), ("diag", 8)])
def test_both_heads_score_as_in_pytorch(tmp_path, opset, covariance, hidden):
    save_convolution(tmp_path / "c.onnx", opset=opset)
    detector = detector_over(tmp_path / "c.onnx", covariance, hidden)
    names = ["log_likelihood", "p_ai_generated", "embedding"]
    likelihood, probability, embedding = open_session(detector_graph(detector)).run(
        names, {"crops": seeded(4)}
    )
    with torch.no_grad():
        wanted = DetectorHeads(detector).heads(torch.from_numpy(embedding))
    np.testing.assert_allclose(likelihood, wanted[0].numpy(), rtol=1e-9)
    np.testing.assert_allclose(probability, wanted[1].numpy(), rtol=1e-9)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_every_backend_of_exports_runs_it_and_no_row_depends_on_its_batch(tmp_path, vit, backend):
    if backend == "openvino":
        pytest.importorskip("openvino")
    detector = detector_over(vit[1], "diag", changes=["encoder.batch=1"])
    export_onnx(detector, tmp_path / "d.onnx")
    opened = get_plugin(backend).open(tmp_path / "d.onnx", BackendSettings("cpu"))
    crops = seeded(3)
    together, alone = opened.score(crops), [opened.score(crop[None]) for crop in crops]
    for whole, parts in zip(together[:3], zip(*(scores[:3] for scores in alone), strict=True), strict=True):
        np.testing.assert_array_equal(whole, np.concatenate(parts))
    with torch.no_grad():
        wanted = DetectorHeads(detector).heads(torch.from_numpy(together.embedding))
    np.testing.assert_allclose(together.log_likelihood, wanted[0].numpy(), rtol=1e-6)
    assert opened.manifest == detector.manifest
    opened.close()


def test_a_graph_that_computes_something_else_is_not_written(tmp_path):
    save_convolution(tmp_path / "c.onnx")
    detector = detector_over(tmp_path / "c.onnx")
    save_convolution(tmp_path / "other.onnx", seed=1)
    from bladescan.exporting.onnx import OnnxExporter

    other = detector_over(tmp_path / "other.onnx")
    with pytest.raises(DetectorError, match="differs from the detector: embedding"):
        OnnxExporter(detector, where="d.onnx").check(detector_graph(other))


def test_it_is_an_onnx_file_and_no_other(tmp_path):
    save_convolution(tmp_path / "c.onnx")
    with pytest.raises(DetectorError, match="is an .onnx file: use save_fitted"):
        save_detector(detector_over(tmp_path / "c.onnx"), tmp_path / "d.safetensors")
