"""What TensorRT for RTX itself says, without a GPU; skipped where it is not installed."""

import runpy
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from bladescan.base.errors import BackendError
from bladescan.command import app as cli
from bladescan.command.describe import read_manifest
from bladescan.detectors.shipped import ONNX, SAFETENSORS
from bladescan.exporting.onnx import seeded_crops
from bladescan.exporting.quantisation import symmetric
from bladescan.exporting.tensorrt import TOLERANCES, embedding_graph, heads_graph
from bladescan.heads.detector import load_detector
from bladescan.runtimes.cuda import CudaDevice
from bladescan.runtimes.engine_file import read_engine
from bladescan.runtimes.tensorrt_library import build_engine, find_library, listed_capabilities, new_log
from tests.backends.fake_tensorrt import FAKE, FAKE_MODULES

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def rtx():
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (pip install tensorrt-rtx)")
    return find_library("tensorrt_rtx")


@pytest.mark.integration
@pytest.mark.parametrize("precision", TOLERANCES)
def test_tensorrt_for_rtx_builds_the_shipped_detector_without_a_gpu(rtx, precision):
    capabilities = [name for name in listed_capabilities(rtx) if name in ("8.6", "12.0")]
    assert capabilities
    graph = embedding_graph(load_detector(SAFETENSORS), precision)
    engine = build_engine(rtx, graph, size=224, max_batch=64, capabilities=capabilities)
    weights = sum(tensor.numel() for tensor in load_detector(SAFETENSORS).vision.values())
    assert len(engine) > weights  # a byte for each at the least


@pytest.mark.integration
def test_the_fake_runtime_has_nothing_that_tensorrt_lacks(rtx):
    with pytest.MonkeyPatch.context() as patch:
        for name in FAKE_MODULES:
            patch.delitem(sys.modules, name, raising=False)
        patch.syspath_prepend(FAKE)
        fake = runpy.run_path(str(FAKE / "tensorrt" / "__init__.py"))
        for name in FAKE_MODULES:
            sys.modules.pop(name, None)
    real_names = {
        "Builder": "Builder",
        "Config": "IBuilderConfig",
        "Context": "IExecutionContext",
        "Engine": "ICudaEngine",
        "OnnxParser": "OnnxParser",
        "Profile": "IOptimizationProfile",
        "Runtime": "Runtime",
    }
    for name, real in real_names.items():
        methods = {method for method in vars(fake[name]) if not method.startswith("_")} - {"profile"}
        assert methods and methods <= set(dir(getattr(rtx.api, real))), name
    for name in ("NetworkDefinitionCreationFlag", "BuilderFlag", "DataType"):
        assert set(fake[name].__members__) <= set(getattr(rtx.api, name).__members__)
    assert {"ERROR", "INTERNAL_ERROR", "WARNING"} <= set(dir(rtx.api.ILogger))


@pytest.mark.integration
def test_the_fake_cuda_has_nothing_that_the_bindings_lack():
    code = "from cuda.bindings import runtime; print(*dir(runtime), *dir(runtime.cudaError_t))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("cuda-bindings is not installed")
    fake = runpy.run_path(str(FAKE / "cuda" / "bindings" / "runtime.py"))
    names = {name for name in fake if name.startswith("cuda")} | set(fake["cudaError_t"].__members__)
    assert len(names) > 20 and names <= set(done.stdout.split())


@pytest.mark.integration
def test_the_command_builds_an_engine_for_every_rtx_gpu_without_one(rtx, tmp_path, monkeypatch):
    monkeypatch.setattr("bladescan.runtimes.tensorrt_library.LIBRARIES", ("tensorrt_rtx",))
    path = tmp_path / "d.engine"
    command = ["export", str(SAFETENSORS), "--to", "tensorrt", "-o", str(path)]
    monkeypatch.setattr("bladescan.exporting.tensorrt._device", lambda: CudaDevice("Some GPU", "9.0"))
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 2 and not path.exists()
    assert "has nothing for Some GPU (compute capability 9.0), only for 8.0, " in done.output
    monkeypatch.setattr("bladescan.exporting.tensorrt._device", lambda: None)
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0, done.output
    build = read_engine(path).build
    assert {"8.6", "12.0"} <= set(build.capabilities)
    assert (build.library, build.device, build.precision) == ("tensorrt_rtx", "", "fp16")
    assert read_manifest(path) == load_detector(SAFETENSORS).manifest


@pytest.mark.integration
def test_tensorrt_for_rtx_builds_the_shipped_detector_in_integers(rtx):
    graph = symmetric(embedding_graph(load_detector(SAFETENSORS), "fp32"), seeded_crops(8, 224))
    assert b"QuantizeLinear" in graph
    engine = build_engine(rtx, graph, size=224, max_batch=8, capabilities=["8.6"])
    assert len(engine) > 1e6


@pytest.mark.integration
def test_tensorrt_reads_float64_as_float32_so_the_heads_stay_outside(rtx):
    """If this ever fails, TensorRT has learned float64 and the heads may move into the engine."""
    network = rtx.api.Builder(new_log(rtx)).create_network(1)
    parser = rtx.api.OnnxParser(network, new_log(rtx))
    assert parser.parse(heads_graph(load_detector(SAFETENSORS)))
    kinds = [network.get_output(i).dtype.name for i in range(network.num_outputs)]
    assert kinds == ["FLOAT", "FLOAT"]


@pytest.mark.integration
def test_tensorrt_for_rtx_cannot_read_a_graph_that_moves_bytes(rtx):
    with pytest.raises(BackendError, match="^tensorrt_rtx .* cannot read the graph: .*") as caught:
        build_engine(rtx, ONNX.read_bytes(), size=224, max_batch=1, capabilities=["8.6"])
    assert "\n" not in str(caught.value)
