"""TensorRT engines: file, building and running, on a fake runtime where there is no real one."""

import hashlib
import json
import pickle
import runpy
import shlex
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bladescan.base.errors import (
    BackendError,
    DetectorError,
    DeviceUnavailableError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from bladescan.command import app as cli
from bladescan.command.describe import read_manifest
from bladescan.detectors.shipped import ONNX, SAFETENSORS
from bladescan.exporting.exporter import write_export
from bladescan.exporting.onnx import seeded_crops
from bladescan.exporting.quantisation import symmetric
from bladescan.exporting.tensorrt import TOLERANCES, EngineExporter, embedding_graph, heads_graph
from bladescan.heads.detector import DetectorModule, load_detector, save_detector
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.cuda import CudaDevice, OutOfDeviceMemoryError
from bladescan.runtimes.engine_file import (
    MAGIC,
    EngineBuild,
    EngineFile,
    encode_engine,
    read_engine,
    rebuild_command,
    why_unusable,
)
from bladescan.runtimes.registry import choose_plugin, get_plugin
from bladescan.runtimes.tensorrt_library import build_engine, find_library, listed_capabilities, new_log
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.scanner import Decision, Scanner, ScanOptions
from tests.backends import test_contract as test_backends
from tests.backends.test_contract import Bomb
from tests.tiny import D, bare_encoder, crops, tiny_detector

pytest.importorskip("onnx")
FAKE = Path(__file__).parent / "fake_runtime"
FAKE_MODULES = ("tensorrt", "cuda", "cuda.bindings", "cuda.bindings.runtime")
BUILD = EngineBuild("tensorrt", "10.9", "Some GPU", ("9.0",), "fp16", 64, "d.safetensors", "0" * 64)
CONTRACT = {
    name.removeprefix("test_contract_"): check
    for name, check in vars(test_backends).items()
    if name.startswith("test_contract_") and not hasattr(check, "pytestmark")
}


@pytest.fixture(scope="module")
def fake():
    """TensorRT and a CUDA device, as far as bladescan can tell."""
    with pytest.MonkeyPatch.context() as patch:
        for name in FAKE_MODULES:
            patch.delitem(sys.modules, name, raising=False)
        patch.syspath_prepend(FAKE)
        import tensorrt
        from cuda.bindings import runtime

        yield SimpleNamespace(tensorrt=tensorrt, cuda=runtime)
        for name in FAKE_MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def engine(fake, tmp_path_factory):
    """An engine of the tiny detector that takes three crops at most, built by the command."""
    folder = tmp_path_factory.mktemp("engines")
    save_detector(tiny_detector(), folder / "d.safetensors")
    command = ["export", str(folder / "d.safetensors"), "--to", "tensorrt", "--precision", "fp32"]
    done = CliRunner().invoke(cli.app, [*command, "--max-batch", "3", "-o", str(folder / "d.engine")])
    assert done.exit_code == 0, done.output
    assert "built_for: Fake 9000 (9.0)" in done.output
    return folder / "d.engine"


@pytest.fixture
def backend(engine):
    opened = get_plugin("tensorrt").open(engine, BackendSettings())
    yield opened
    opened.close()


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_of_all_backends_holds(name, backend):
    CONTRACT[name](backend)


def test_batches_of_every_size_come_back_in_order(backend):
    x = crops(11)
    with torch.inference_mode():
        expected = DetectorModule(tiny_detector())(torch.from_numpy(x))
    for n in (11, 3, 4, 1):
        scores = backend.score(x[:n])
        for values, wanted in zip(scores, expected, strict=True):
            np.testing.assert_allclose(values, wanted[:n], rtol=1e-4, atol=1e-5)


def test_a_run_that_breaks_off_leaves_nothing_to_the_next(fake, backend, monkeypatch):
    x = crops(11)
    expected = backend.embed(x[:1])
    runs = iter([True, False])
    execute = fake.tensorrt.Context.execute_async_v3
    with monkeypatch.context() as patched:
        patched.setattr(
            fake.tensorrt.Context,
            "execute_async_v3",
            lambda self, stream: next(runs) and execute(self, stream),
        )
        with pytest.raises(BackendError, match="failed to run the engine"):
            backend.embed(x)
    np.testing.assert_array_equal(backend.embed(x[:1]), expected)


def test_too_little_memory_halves_the_batch_and_closing_gives_all_back(fake, engine, monkeypatch):
    x = crops(5)
    opened = get_plugin("tensorrt").open(engine, BackendSettings())
    expected = opened.embed(x)
    opened.close()
    assert not fake.cuda.allocated and not fake.cuda.streams and not fake.cuda.events
    one = 2 * (x[0].nbytes + 4 * D)
    monkeypatch.setattr(fake.cuda, "memory_limit", 2 * one)
    opened = get_plugin("tensorrt").open(engine, BackendSettings())
    assert sum(map(len, fake.cuda.allocated.values())) == 2 * one  # two slots of one crop
    np.testing.assert_allclose(opened.embed(x), expected, atol=1e-6)
    opened.close()
    monkeypatch.setattr(fake.cuda, "memory_limit", one)
    with pytest.raises(OutOfDeviceMemoryError, match="out of memory"):
        get_plugin("tensorrt").open(engine, BackendSettings())
    assert not fake.cuda.allocated


def test_a_bare_encoder_has_embeddings_only(fake, tmp_path):
    save_detector(bare_encoder(), tmp_path / "bare.safetensors")
    write_export(EngineExporter(tmp_path / "bare.safetensors", precision="fp16"), tmp_path / "bare.engine")
    scores = get_plugin("tensorrt").open(tmp_path / "bare.engine", BackendSettings()).score(crops(2))
    assert scores.log_likelihood is None and scores.p_ai_generated is None
    assert scores.embedding.shape == (2, D)


def test_a_scan_takes_an_engine_by_its_name_and_info_needs_no_device(fake, engine, monkeypatch):
    assert choose_plugin("auto", engine).name == "tensorrt"
    monkeypatch.setattr(fake.cuda, "devices", [])
    assert read_manifest(engine) == tiny_detector().manifest
    status = get_plugin("tensorrt").status()
    assert (status.version, status.devices) == ("tensorrt 10.99.0", ())
    assert "no CUDA device" in status.hint


def test_a_scan_on_a_cuda_device_takes_larger_batches_unless_told(engine):
    for device, size, expected in (("auto", None, 64), ("cuda:0", 5, 5), ("auto", 8, 8)):
        options = ScanOptions(
            model=engine,
            decision=Decision(false_alarm=0.5),
            runtime=BackendSettings(device),
            decoder=DecoderSettings(faces="none"),
            batch_size=size,
        )
        job = Scanner(options)
        try:
            assert (job.settings.batch_size, job.device) == (expected, "cuda:0")
        finally:
            job.close()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("tensorrt", "__version__", "10.100.0"), "built by tensorrt 10.99.0, here is tensorrt 10.100.0"),
        (
            ("cuda", "devices", [SimpleNamespace(name=b"Fake 9001", major=9, minor=0)]),
            "built on Fake 9000, here is Fake 9001",
        ),
        (
            ("cuda", "devices", [SimpleNamespace(name=b"Old", major=7, minor=5)]),
            "built for compute capability 9.0, Old has 7.5",
        ),
    ],
)
def test_a_stale_engine_is_refused_with_the_command_that_rebuilds_it(
    fake, engine, tmp_path, monkeypatch, change, why
):
    place, name, value = change
    monkeypatch.setattr(getattr(fake, place), name, value)
    stale = tmp_path / "my engine.engine"
    stale.write_bytes(engine.read_bytes())
    (tmp_path / "d.safetensors").write_bytes((engine.parent / "d.safetensors").read_bytes())
    with pytest.raises(DetectorError, match="^my engine.engine: ") as caught:
        get_plugin("tensorrt").open(stale, BackendSettings())
    said, _, command = str(caught.value).partition("; build it again: ")
    assert why in said and "\n" not in said
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(command)
    assert program == "bladescan"
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    assert get_plugin("tensorrt").open(stale, BackendSettings()).score(crops(1)).p_ai_generated.shape == (1,)


def test_what_cannot_be_asked_of_an_engine_is_refused(fake, engine):
    plugin = get_plugin("tensorrt")
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        plugin.open(engine, BackendSettings("gpu"))
    for device in ("cpu", "cuda:1"):
        with pytest.raises(DeviceUnavailableError, match=f"'{device}' is not available"):
            plugin.open(engine, BackendSettings(device))
    with pytest.raises(UsageError, match="computes in fp32, not 'bf16'"):
        plugin.open(engine, BackendSettings(precision="bf16"))


def test_an_engine_of_another_kind_is_refused(fake, engine, tmp_path):
    file = read_engine(engine)
    other = file._replace(engine=file.engine.replace(b"embedding", b"embeddong"))
    (tmp_path / "o.engine").write_bytes(encode_engine(other))
    with pytest.raises(DetectorError, match="^o.engine: expected an engine from crops to embedding"):
        get_plugin("tensorrt").open(tmp_path / "o.engine", BackendSettings())
    (tmp_path / "o.engine").write_bytes(encode_engine(file._replace(engine=b"nonsense")))
    with pytest.raises(BackendError, match="^o.engine: tensorrt cannot load .*: Serialization") as caught:
        get_plugin("tensorrt").open(tmp_path / "o.engine", BackendSettings())
    assert "\n" not in str(caught.value)
    (tmp_path / "o.engine").write_bytes(encode_engine(file._replace(heads=file.engine)))
    with pytest.raises(DetectorError, match="^o.engine: "):
        get_plugin("tensorrt").open(tmp_path / "o.engine", BackendSettings())


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


# The file


def some_file():
    return EngineFile(tiny_detector().manifest, BUILD, b"heads", b"engine")


def test_an_engine_file_holds_what_was_put_in(tmp_path):
    path = tmp_path / "d.engine"
    path.write_bytes(encode_engine(some_file()))
    assert read_engine(path) == some_file()


@pytest.mark.parametrize("n", [0, 5, len(MAGIC) + 2, len(MAGIC) + 40, -1, -9])
def test_a_truncated_engine_file_is_told(tmp_path, n):
    path = tmp_path / "t.engine"
    path.write_bytes(encode_engine(some_file())[:n])
    with pytest.raises(DetectorError, match="^t.engine: (not an engine|truncated or damaged)"):
        read_engine(path)


def test_a_damaged_engine_file_is_told(tmp_path):
    path = tmp_path / "t.engine"
    whole = encode_engine(some_file())
    for at in (-1, -8, len(MAGIC) + 1, len(MAGIC) + 30):
        data = bytearray(whole)
        data[at] ^= 1
        path.write_bytes(data)
        with pytest.raises(DetectorError, match="^t.engine: "):
            read_engine(path)


def with_header(**changes):
    whole = encode_engine(some_file())
    start = len(MAGIC) + 4
    stop = start + struct.unpack_from(">I", whole, len(MAGIC))[0]
    header = json.dumps(json.loads(whole[start:stop]) | changes).encode()
    return MAGIC + struct.pack(">I", len(header)) + header + whole[stop:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "made by a newer bladescan"),
        ({"n_heads": 12, "n_engine": -1}, "truncated or damaged"),
        ({"n_heads": 6}, "truncated or damaged"),
        ({"manifest": {"name": 3}}, "not a bladescan detector"),
    ],
)
def test_a_header_that_lies_is_told(tmp_path, changes, message):
    path = tmp_path / "t.engine"
    path.write_bytes(with_header(**changes))
    with pytest.raises(DetectorError, match=f"^t.engine: {message}"):
        read_engine(path)


def test_no_part_of_an_engine_file_is_unpickled(fake, tmp_path):
    bomb = pickle.dumps(Bomb(tmp_path / "executed"))
    file = some_file()._replace(heads=bomb, engine=bomb, build=msgspec.structs.replace(BUILD, device=""))
    current = msgspec.structs.replace(file.build, library_version="10.99.0")
    for data in (bomb, MAGIC + bomb, encode_engine(file), encode_engine(file._replace(build=current))):
        (tmp_path / "evil.engine").write_bytes(data)
        with pytest.raises((DetectorError, BackendError), match="^evil.engine: "):
            get_plugin("tensorrt").open(tmp_path / "evil.engine", BackendSettings())
    assert not (tmp_path / "executed").exists()


def test_an_engine_is_stale_anywhere_but_where_it_was_built():
    here = CudaDevice("Some GPU", "9.0")
    assert why_unusable(BUILD, "tensorrt", "10.9", here) == ""
    assert "here is tensorrt_rtx 10.9" in why_unusable(BUILD, "tensorrt_rtx", "10.9", here)
    assert "here is tensorrt 10.9.1" in why_unusable(BUILD, "tensorrt", "10.9.1", here)
    assert "Other has 8.9" in why_unusable(BUILD, "tensorrt", "10.9", CudaDevice("Other", "8.9"))
    assert "here is Other" in why_unusable(BUILD, "tensorrt", "10.9", CudaDevice("Other", "9.0"))
    portable = msgspec.structs.replace(BUILD, device="", capabilities=("8.9", "9.0"))
    assert why_unusable(portable, "tensorrt", "10.9", CudaDevice("Other", "8.9")) == ""


def test_the_command_that_rebuilds_integers_names_the_photographs():
    build = msgspec.structs.replace(BUILD, precision="int8", photos=("my photos", "-"))
    words = shlex.split(rebuild_command(build, Path("e.engine")))
    assert words[5:10] == ["--precision", "int8", "--photos=my photos", "--photos=-", "--max-batch"]


@pytest.mark.parametrize("name", ["a b.safetensors", "$(reboot).safetensors", "-o", "; rm -rf x", "'"])
def test_the_command_that_rebuilds_is_quoted(name):
    build = msgspec.structs.replace(BUILD, detector=name, precision=name)
    words = shlex.split(rebuild_command(build, Path("e.engine")))
    assert words[:2] == ["bladescan", "export"]
    assert words[2].removeprefix("./") == name
    assert words[3:6] == ["--to", "tensorrt", "--precision"]


# What TensorRT itself says, without a GPU


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
    for found, value in zip(heads.run(None, {"embedding": wanted[2].numpy()}), wanted, strict=False):
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, value, rtol=1e-6)


def test_the_detector_that_an_engine_is_of_is_named_by_its_hash(engine):
    data = (engine.parent / "d.safetensors").read_bytes()
    assert read_engine(engine).build.detector_sha256 == hashlib.sha256(data).hexdigest()
