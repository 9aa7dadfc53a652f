"""Engines are built of graphs that compute the detector, on a fake TensorRT."""

import hashlib
import sys

import numpy as np
import pytest
import torch

from bladescan.base.errors import (
    BackendError,
    DetectorError,
    DeviceUnavailableError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from bladescan.detectors.shipped import SAFETENSORS
from bladescan.exporting.exporter import write_export
from bladescan.exporting.onnx import seeded_crops
from bladescan.exporting.tensorrt import TOLERANCES, EngineExporter, embedding_graph, heads_graph
from bladescan.heads.detector import DetectorModule, load_detector, save_detector
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.engine_file import read_engine
from bladescan.runtimes.registry import get_plugin
from bladescan.runtimes.tensorrt_library import build_engine, find_library
from tests.tiny import tiny_detector

pytest.importorskip("onnx")


def test_nothing_is_written_when_the_engine_does_not_compute_the_detector(fake, tmp_path, monkeypatch):
    save_detector(tiny_detector(), tmp_path / "d.safetensors")
    monkeypatch.setitem(TOLERANCES, "fp16", 1e-9)
    with pytest.raises(DetectorError, match="the fp16 graph differs from the detector"):
        write_export(EngineExporter(tmp_path / "d.safetensors"), tmp_path / "d.engine")
    with pytest.raises(UnknownNameError, match="Available: fp16, fp32, int8"):
        write_export(EngineExporter(tmp_path / "d.safetensors", precision="fp8"), tmp_path / "d.engine")
    monkeypatch.setattr(fake.cuda, "devices", [])
    with pytest.raises(DeviceUnavailableError, match="builds an engine on the device that will run it"):
        write_export(EngineExporter(tmp_path / "d.safetensors"), tmp_path / "d.engine")
    assert [path.name for path in tmp_path.iterdir()] == ["d.safetensors"]


def test_int8_is_calibrated_on_photographs_and_compared_on_others(fake, tmp_path):
    save_detector(tiny_detector(), tmp_path / "d.safetensors")
    smooth = seeded_crops(80, 224)[::2]
    for precision, given in (("int8", None), ("fp16", lambda rule: smooth)):
        with pytest.raises(UsageError, match="go together"):
            write_export(
                EngineExporter(tmp_path / "d.safetensors", precision=precision, cut=given),
                tmp_path / "d.engine",
            )
    exporter = EngineExporter(
        tmp_path / "d.safetensors", precision="int8", cut=lambda rule: smooth, photographs=["p"]
    )
    report = write_export(exporter, tmp_path / "d.engine")
    assert read_engine(tmp_path / "d.engine").build.photos == ("p",)
    assert report.n_crops == 20
    assert set(report.same_verdict) == {"one-class", "binary"}
    assert 0 < report.graph < 0.2
    assert report.engine == pytest.approx(report.graph, rel=0.2)
    opened = get_plugin("tensorrt").open(tmp_path / "d.engine", BackendSettings(precision="int8"))
    assert opened.score(smooth[:2]).p_ai_generated.shape == (2,)


def test_a_graph_that_tensorrt_does_not_read_is_one_line(fake):
    with pytest.raises(BackendError, match="tensorrt 10.99.0 cannot read the graph: Transpose") as caught:
        build_engine(find_library(), b"Transpose Cast", size=224, max_batch=1, capabilities=["9.0"])
    assert "\n" not in str(caught.value)
    with pytest.raises(BackendError, match="cannot build the engine: Network must have"):
        build_engine(find_library(), b"", size=224, max_batch=1, capabilities=["9.0"])


def test_without_the_libraries_there_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("bladescan.runtimes.tensorrt_library.find_spec", lambda name: None)
    status = get_plugin("tensorrt").status()
    assert status.version is None and "\n" not in status.hint and "pip install" in status.hint
    for call in (
        lambda: get_plugin("tensorrt").open(tmp_path / "d.engine", BackendSettings()),
        lambda: write_export(EngineExporter(tmp_path / "d.safetensors"), tmp_path / "d.engine"),
    ):
        with pytest.raises(MissingDependencyError, match="needs TensorRT, which is not installed") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_library_that_lacks_its_libraries_is_one_line(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise Exception('Could not find libnvinfer\\nin these paths')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    status = get_plugin("tensorrt").status()
    assert status.version is None
    assert status.hint.startswith("tensorrt cannot be imported (Could not find libnvinfer): pip install")


def test_the_graphs_of_the_shipped_detector_compute_it():
    onnxruntime = pytest.importorskip("onnxruntime")
    detector = load_detector(SAFETENSORS)
    x = seeded_crops(4, 224)
    with torch.inference_mode():
        wanted = DetectorModule(detector)(torch.from_numpy(x))
    session = onnxruntime.InferenceSession(embedding_graph(detector, "fp16"))
    (embedding,) = session.run(None, {"crops": x})
    assert np.linalg.norm(embedding - wanted[2].numpy()) <= TOLERANCES["fp16"] * wanted[2].norm()
    heads = onnxruntime.InferenceSession(heads_graph(detector))
    scores = [value for value in wanted[:2] if value is not None]
    for found, value in zip(heads.run(None, {"embedding": wanted[2].numpy()}), scores, strict=True):
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, value, rtol=1e-6)


def test_the_detector_that_an_engine_is_of_is_named_by_its_hash(engine):
    data = (engine.parent / "d.safetensors").read_bytes()
    assert read_engine(engine).build.detector_sha256 == hashlib.sha256(data).hexdigest()
