"""One contract for every registered backend, and what is particular to the built-in ones."""

import os
import pickle
import shutil
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bladescan_backends import pytorch as pytorch_backend
from bladescan_backends.fake import FakeBackend
from bladescan_backends.pytorch import PyTorchBackend

from bladescan.base.errors import (
    BackendError,
    DetectorError,
    DeviceUnavailableError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from bladescan.exporting.onnx import export_onnx
from bladescan.heads.detector import DetectorModule, save_detector
from bladescan.runtimes.backend import Backend, BackendPlugin, BackendSettings
from bladescan.runtimes.registry import DISABLE_VARIABLE, choose_plugin, get_plugin, plugin_names
from tests.tiny import D, bare_encoder, crops, tiny_detector

onnx = pytest.importorskip("onnx")
PLUGIN_PACKAGE = Path(__file__).parent / "plugin_package"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same tiny detector as every kind of file, and a bare encoder."""
    folder = tmp_path_factory.mktemp("detectors")
    save_detector(tiny_detector(), folder / "d.safetensors")
    export_onnx(tiny_detector(), folder / "d.onnx")
    save_detector(bare_encoder(), folder / "bare.safetensors")
    export_onnx(bare_encoder(), folder / "bare.onnx")
    return folder


def open_or_skip(name, files, stem="d", **settings):
    plugin = get_plugin(name)
    status = plugin.status()
    if status.version is None:
        pytest.skip(f"{name} is not installed: {status.hint}")
    for suffix in plugin.suffixes:
        if (files / f"{stem}{suffix}").exists():
            return plugin.open(files / f"{stem}{suffix}", BackendSettings(**{"device": "cpu", **settings}))
    pytest.skip(f"no {' or '.join(plugin.suffixes)} detector can be made here for {name}")


@pytest.fixture(params=plugin_names())
def backend(request, files):
    opened = open_or_skip(request.param, files)
    yield opened
    opened.close()


def reference(x):
    with torch.inference_mode():
        return DetectorModule(tiny_detector())(torch.from_numpy(x))


def test_contract_it_is_a_backend(backend):
    assert isinstance(backend, Backend)
    assert backend.device in ("cpu", "cuda:0")
    assert backend.manifest == tiny_detector().manifest


def test_contract_scores_have_the_promised_types(backend):
    scores = backend.score(crops(3))
    assert (scores.log_likelihood.dtype, scores.log_likelihood.shape) == (np.float64, (3,))
    assert (scores.p_ai_generated.dtype, scores.p_ai_generated.shape) == (np.float64, (3,))
    assert (scores.embedding.dtype, scores.embedding.shape) == (np.float32, (3, D))
    np.testing.assert_array_equal(backend.embed(crops(3)), scores.embedding)


def test_contract_an_empty_batch_has_empty_scores(backend):
    scores = backend.score(crops(0))
    assert scores.log_likelihood.shape == scores.p_ai_generated.shape == (0,)
    assert scores.embedding.shape == backend.embed(crops(0)).shape == (0, D)
    assert scores.log_likelihood.dtype == np.float64


def test_contract_it_agrees_with_the_torch_reference(backend):
    x = crops(6)
    likelihood, probability, embedding = reference(x)
    scores = backend.score(x)
    np.testing.assert_allclose(scores.log_likelihood, likelihood, rtol=1e-3)
    np.testing.assert_allclose(scores.p_ai_generated, probability, atol=1e-3)
    np.testing.assert_allclose(scores.embedding, embedding, atol=1e-4)


def test_contract_a_row_does_not_depend_on_its_batch(backend):
    x = crops(7)
    whole = backend.score(x)
    for size in (1, 3):
        parts = [backend.score(x[i : i + size]) for i in range(0, 7, size)]
        for values, rows in zip(whole, zip(*parts, strict=True), strict=True):
            np.testing.assert_allclose(np.concatenate(rows), values, rtol=1e-4, atol=1e-6)


def test_contract_crops_may_be_read_only_or_not_contiguous(backend):
    x = crops(4)
    x.flags.writeable = False
    np.testing.assert_allclose(backend.embed(x[::2]), backend.embed(x)[::2], atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 3, 224, 224), np.uint8),
        np.zeros((2, 100, 100, 3), np.uint8),
        np.zeros((224, 224, 3), np.uint8),
        np.zeros((2, 224, 224, 3), np.float32),
    ],
)
def test_contract_other_crops_are_an_error(backend, wrong):
    for method in (backend.score, backend.embed):
        with pytest.raises(BackendError, match="crops must be uint8"):
            method(wrong)


def test_contract_closing_twice_is_fine_and_scoring_afterwards_is_an_error(backend):
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.score(crops(1))


@pytest.mark.parametrize("name", plugin_names())
def test_contract_a_bare_encoder_has_embeddings_only(name, files):
    scores = open_or_skip(name, files, "bare").score(crops(2))
    assert scores.log_likelihood is None and scores.p_ai_generated is None
    assert scores.embedding.shape == (2, D)


@pytest.mark.parametrize("name", plugin_names())
def test_contract_a_plugin_tells_its_status_and_refuses_what_it_cannot_open(name, tmp_path):
    plugin = get_plugin(name)
    assert isinstance(plugin, BackendPlugin)
    assert plugin.name == name
    status = plugin.status()
    assert "\n" not in status.hint
    if status.version is None:
        assert "pip install" in status.hint
        with pytest.raises(MissingDependencyError, match="pip install"):
            plugin.open(tmp_path / "x", BackendSettings())
        return
    assert "cpu" in status.devices or plugin.suffixes == (".engine",)  # which are for one GPU
    path = tmp_path / f"random{plugin.suffixes[0]}"
    for data in (b"", np.random.default_rng(0).bytes(3000), b"hello world\n" * 100):
        path.write_bytes(data)
        with pytest.raises(DetectorError, match="^random") as caught:
            plugin.open(path, BackendSettings(device="cpu"))
        assert "\n" not in str(caught.value)
    with pytest.raises(DetectorError, match="is a folder"):
        plugin.open(tmp_path, BackendSettings(device="cpu"))
    with pytest.raises(DetectorError, match="cannot be read"):
        plugin.open(tmp_path / f"absent{plugin.suffixes[0]}", BackendSettings(device="cpu"))


@pytest.mark.parametrize("name", plugin_names())
def test_contract_a_device_that_cannot_be_had_is_refused(name, files):
    status = get_plugin(name).status()
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        open_or_skip(name, files, device="gpu")
    if any(device.startswith("cuda") for device in status.devices):
        pytest.skip("a CUDA device is here")
    with pytest.raises(DeviceUnavailableError, match="'cuda:0' is not available"):
        open_or_skip(name, files, device="cuda:0")
    assert open_or_skip(name, files, device="auto").device == "cpu"


@pytest.mark.parametrize("name,precision", [("onnx", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")])
def test_rows_are_the_same_bits_whatever_batch_and_threads(name, precision, files):
    if precision == "bf16" and not openvino_has_bf16():
        pytest.skip("this CPU has no bf16 instructions")
    x = crops(33)
    expected = open_or_skip(name, files, threads=1, precision=precision).score(x)
    for threads in (1, 2):
        opened = open_or_skip(name, files, threads=threads, precision=precision)
        for size in (1, 2, 11, 32):
            parts = [opened.score(x[i : i + size]) for i in range(0, 33, size)]
            for values, rows in zip(expected, zip(*parts, strict=True), strict=True):
                np.testing.assert_array_equal(np.concatenate(rows), values)


def openvino_has_bf16():
    pytest.importorskip("openvino")
    from bladescan_backends.openvino import _core  # a second one would break signals

    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize("name", ["onnx", "openvino", "pytorch"])
def test_importing_a_plugin_imports_no_runtime(name):
    runtimes = "{'torch', 'onnx', 'onnxruntime', 'openvino'} & set(sys.modules)"
    code = f"import sys, bladescan_backends.{name}; sys.exit(bool({runtimes}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_onnx_has_no_other_precision(files):
    with pytest.raises(UsageError, match="file's own precision, not 'fp16'"):
        open_or_skip("onnx", files, precision="fp16")


def test_openvino_computes_only_the_encoder_in_bf16(files):
    if not openvino_has_bf16():
        with pytest.raises(UsageError, match="no bf16 instructions"):
            open_or_skip("openvino", files, precision="bf16")
        pytest.skip("this CPU has no bf16 instructions: that is refused")
    x = crops(4)
    exact = open_or_skip("openvino", files).score(x)
    rough = open_or_skip("openvino", files, precision="bf16").score(x)
    assert 0 < abs(rough.embedding - exact.embedding).max() < 0.05
    again = tiny_detector().mixture.score_samples(rough.embedding)
    np.testing.assert_allclose(rough.log_likelihood, again, rtol=1e-4)


def test_openvino_has_no_other_precision(files):
    with pytest.raises(UsageError, match="fp32 or bf16, not 'fp16'"):
        open_or_skip("openvino", files, precision="fp16")


def test_signals_survive_openvino_backends_that_come_and_go(files):
    pytest.importorskip("openvino")
    code = (
        "import faulthandler, os, signal, sys; from pathlib import Path\n"
        "from bladescan.runtimes.registry import *; from bladescan.runtimes.backend import *\n"
        "faulthandler.enable(); signal.signal(signal.SIGUSR1, lambda *_: print('alive', flush=True))\n"
        "def opened(): return get_plugin('openvino').open(Path(sys.argv[1]), BackendSettings())\n"
        "first = opened(); second = opened(); first.close(); del first; second.close(); del second\n"
        "os.kill(os.getpid(), signal.SIGUSR1)"
    )
    done = subprocess.run([sys.executable, "-c", code, files / "d.onnx"], stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, b"alive\n")


def test_openvino_sends_nothing_when_it_is_opened(files):
    """Its wheel brings openvino_telemetry, which could."""
    code = (
        "import sys, socket; from pathlib import Path\n"
        "from bladescan.runtimes.registry import *; from bladescan.runtimes.backend import *\n"
        "def no(*_): raise SystemExit('a connection was asked for')\n"
        "socket.socket.connect = socket.getaddrinfo = no\n"
        "get_plugin('openvino').open(Path(sys.argv[1]), BackendSettings()).close()"
    )
    pytest.importorskip("openvino")
    subprocess.run([sys.executable, "-c", code, files / "d.onnx"], check=True)


def test_pytorch_computes_only_the_encoder_in_bf16(files):
    x = crops(4)
    exact = open_or_skip("pytorch", files).score(x)
    rough = open_or_skip("pytorch", files, precision="bf16").score(x)
    assert rough.log_likelihood.dtype == np.float64
    assert 0 < abs(rough.embedding - exact.embedding).max() < 0.05
    again = tiny_detector().mixture.score_samples(rough.embedding)
    np.testing.assert_allclose(rough.log_likelihood, again, rtol=1e-12)
    with pytest.raises(UsageError, match="not 'int8'"):
        open_or_skip("pytorch", files, precision="int8")


class Cramped(DetectorModule):
    """A device with room for so many crops."""

    room = 3

    def embed(self, crops):
        if len(crops) > self.room:
            raise torch.OutOfMemoryError(f"CUDA out of memory\nwith {len(crops)} crops")
        return super().embed(crops)


class CrampedGraph(Cramped):
    """The same while a graph is captured: what comes out is that the capture failed."""

    def embed(self, crops):
        try:
            return super().embed(crops)
        finally:
            if len(crops) > self.room:
                raise RuntimeError("operation failed due to a previous error during capture")


@pytest.mark.parametrize("cramped", [Cramped, CrampedGraph])
def test_pytorch_halves_a_batch_that_the_device_has_no_room_for(cramped):
    x = crops(11)
    module = cramped(tiny_detector())
    scores = PyTorchBackend(module, tiny_detector().manifest, "cpu").score(x)
    for values, wanted in zip(scores, reference(x), strict=True):
        np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-6)
    module.room = 0
    with pytest.raises(BackendError, match="pytorch on cpu: out of memory with one crop") as caught:
        PyTorchBackend(module, tiny_detector().manifest, "cpu").embed(x)
    assert "\n" not in str(caught.value)


class FakeGraph:
    """A CUDA graph on the CPU: replaying it does what was captured again, into the same outputs."""

    capturing = None

    def replay(self):
        with torch.inference_mode():
            for output, again in zip(self.outputs, self.again(), strict=True):
                if output is not None:
                    output.copy_(again)

    @contextmanager
    def capture(self):
        FakeGraph.capturing = self
        yield
        FakeGraph.capturing = None


@pytest.fixture
def graphs_on_cpu(monkeypatch):
    """PyTorch's CUDA functions as far as the backend calls them; the list of captured batch sizes."""
    captured, compute = [], pytorch_backend._compute

    def watched(module, pixels, *, heads):
        outputs = compute(module, pixels, heads=heads)
        if FakeGraph.capturing is not None:
            FakeGraph.capturing.outputs = outputs
            FakeGraph.capturing.again = lambda: compute(module, pixels, heads=heads)
            captured.append(len(pixels))
            outputs.embedding.zero_()  # a capture computes nothing yet
        return outputs

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(pytorch_backend, "_compute", watched)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", FakeGraph.capture)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    return captured


def test_pytorch_has_one_graph_for_each_power_of_two_and_no_row_of_another_batch(graphs_on_cpu):
    x = crops(6)
    backend = PyTorchBackend(DetectorModule(tiny_detector()), tiny_detector().manifest, "cpu")
    backend._runner = pytorch_backend._Graphs(DetectorModule(tiny_detector()), "cpu")
    backend._most = 4
    first, second = backend.score(x), backend.score(x[::-1])
    for values, wanted in zip(first, reference(x), strict=True):
        np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(second.embedding, first.embedding[::-1], atol=1e-6)
    assert backend.score(x[:3]).embedding.shape == (3, D)
    assert graphs_on_cpu == [4, 2]
    np.testing.assert_allclose(backend.embed(x[:1]), first.embedding[:1], atol=1e-6)
    assert graphs_on_cpu == [4, 2, 1]
    assert backend.score(x[:0]).embedding.shape == (0, D)


def test_pytorch_drops_its_graphs_when_there_is_no_room_for_another(graphs_on_cpu):
    x = crops(6)
    backend = PyTorchBackend(DetectorModule(tiny_detector()), tiny_detector().manifest, "cpu")
    backend._runner = pytorch_backend._Graphs(Cramped(tiny_detector()), "cpu")
    backend.score(x[:1])
    scores = backend.score(x)
    np.testing.assert_allclose(scores.embedding, reference(x)[2], atol=1e-6)
    assert graphs_on_cpu == [1, 1]  # a batch of 3 fills up to 4, for which there is no room either


class CrampedSession:
    """A session on a device with room for so many crops."""

    def __init__(self, session, room):
        self.session, self.room = session, room

    def run(self, outputs, feeds):
        if len(feeds["crops"]) > self.room:
            raise RuntimeError(
                "Non-zero status code\nFailed to allocate memory for requested buffer of size 9"
            )
        return self.session.run(outputs, feeds)


def test_onnx_halves_a_batch_that_the_device_has_no_room_for(files):
    x = crops(11)
    opened = open_or_skip("onnx", files)
    whole = opened.score(x)
    opened._session = CrampedSession(opened._session, 3)
    for values, wanted in zip(opened.score(x), whole, strict=True):
        np.testing.assert_array_equal(values, wanted)
    opened._session.room = 0
    with pytest.raises(BackendError, match="onnxruntime on cpu: Non-zero status code") as caught:
        opened.score(x)
    assert "\n" not in str(caught.value)


def test_nothing_that_onnxruntime_prints_comes_among_the_verdicts(files, monkeypatch, capsys):
    import onnxruntime

    class Talkative(onnxruntime.InferenceSession):
        """As it is where CUDA cannot start."""

        def __init__(self, *arguments, **options):
            print("EP Error CUDA failure 100: no CUDA-capable device is detected")
            super().__init__(*arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Talkative)
    open_or_skip("onnx", files).close()
    assert capsys.readouterr().out == ""


def test_pytorch_leaves_the_process_its_thread_count(files):
    before = torch.get_num_threads()
    open_or_skip("pytorch", files, threads=before + 1).score(crops(1))
    assert torch.get_num_threads() == before


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize(("name", "suffix"), [("onnx", ".onnx"), ("pytorch", ".safetensors")])
def test_a_malicious_pickle_is_never_executed(tmp_path, name, suffix):
    path = tmp_path / f"evil{suffix}"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    with pytest.raises(DetectorError, match="^evil"):
        get_plugin(name).open(path, BackendSettings(device="cpu"))
    assert not (tmp_path / "executed").exists()


def resaved(files, tmp_path, change):
    model = onnx.load(files / "d.onnx")
    change(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "m.onnx"


def without_manifest(model):
    del model.metadata_props[:]


def with_external_data(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")


def with_hidden_external_data(model):
    tensor = onnx.TensorProto(dims=[1], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    inner = onnx.helper.make_graph([], "inner", [], [], initializer=[tensor])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", inner))


def with_custom_operator(model):
    model.opset_import.append(onnx.helper.make_opsetid("evil.ops", 1))


def with_another_input(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 100


def with_unknown_operator(model):
    model.graph.node[0].op_type = "NoSuchOperator"


def without_an_output(model):
    del model.graph.output[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_manifest, "not a bladescan detector"),
        (with_external_data, "refers to data in other files"),
        (with_hidden_external_data, "refers to data in other files"),
        (with_custom_operator, "custom operators of 'evil.ops'"),
        (with_another_input, "expected one input crops|cannot load it"),
        (with_unknown_operator, "cannot load it"),
        (without_an_output, "expected outputs"),
    ],
)
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_onnx_files_that_are_no_detector_get_one_line(name, files, tmp_path, capfd, change, message):
    if get_plugin(name).status().version is None:
        pytest.skip(f"{name} is not installed")
    with pytest.raises(DetectorError, match=f"^m.onnx: .*({message})") as caught:
        get_plugin(name).open(resaved(files, tmp_path, change), BackendSettings(device="cpu"))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_onnx_file_is_told(files, tmp_path, share):
    data = (files / "d.onnx").read_bytes()
    (tmp_path / "t.onnx").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DetectorError, match="^t.onnx: not a complete ONNX model"):
        get_plugin("onnx").open(tmp_path / "t.onnx", BackendSettings(device="cpu"))


def test_a_score_that_is_no_number_is_an_error(tmp_path):
    detector = tiny_detector()
    detector.vision["conv1.weight"].fill_(3e38)  # finite, but no sum of them is
    save_detector(detector, tmp_path / "d.safetensors")
    opened = get_plugin("pytorch").open(tmp_path / "d.safetensors", BackendSettings(device="cpu"))
    with pytest.raises(BackendError, match="not finite"):
        opened.score(crops(1))


def test_the_fake_backend_scores_pixel_statistics():
    fake = FakeBackend()
    x = crops(3)
    x[1] = 77
    scores = fake.score(x)
    assert scores.log_likelihood[1] == 0
    assert scores.p_ai_generated[1] == pytest.approx(77 / 255)
    np.testing.assert_allclose(np.linalg.norm(scores.embedding, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(fake.score(x[2:]).log_likelihood, scores.log_likelihood[2:])
    assert fake.score(x[:0]).embedding.shape == (0, 768)
    fake.close()
    fake.close()
    with pytest.raises(BackendError, match="closed"):
        fake.embed(x)


def test_auto_chooses_by_the_kind_of_file():
    assert choose_plugin("auto", Path("a.onnx")).name == "onnx"
    assert choose_plugin("auto", Path("a.SafeTensors")).name == "pytorch"
    with pytest.raises(UsageError, match="no backend opens 'a.pth'"):
        choose_plugin("auto", Path("a.pth"))
    with pytest.raises(UnknownNameError, match="Did you mean 'onnx'"):
        get_plugin("onxx")


def declare(folder, package, entry):
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[bladescan.backends]\n{entry}\n")


def test_two_packages_with_one_name_are_an_error(tmp_path, monkeypatch):
    declare(tmp_path, "rival", "onnx = rival:plugin")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendError, match="two packages register the backend 'onnx'.*rival:plugin"):
        plugin_names()
    monkeypatch.setenv(DISABLE_VARIABLE, "1")
    assert "onnx" in plugin_names()


def test_a_plugin_that_cannot_be_imported_is_told_and_can_be_turned_off(tmp_path, monkeypatch):
    declare(tmp_path, "broken", "broken = no_such_module:plugin\nodd = os:path")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendError, match="'broken'.*cannot be imported"):
        get_plugin("broken")
    with pytest.raises(BackendError, match="'odd'.*is not a BackendPlugin"):
        get_plugin("odd")
    monkeypatch.setenv(DISABLE_VARIABLE, "1")
    with pytest.raises(UnknownNameError):
        get_plugin("broken")


@pytest.mark.integration
def test_a_third_party_plugin_meets_the_same_contract(tmp_path):
    if "relay" in plugin_names():
        pytest.skip("this is the run over the plugin itself")
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(PLUGIN_PACKAGE, source)  # a build writes beside its source
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    install += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(target), str(source)]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "PYTHONPATH": str(target)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "contract and relay"]
    command += [f"--basetemp={tmp_path / 'inner'}"]
    done = subprocess.run([*command, __file__], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "failed" not in done.stdout and "passed" in done.stdout
    assert "skipped" not in done.stdout
    code = "from bladescan.runtimes.registry import plugin_names; print(*plugin_names())"
    listed = [
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout.split()
        for env in (environment, {**environment, DISABLE_VARIABLE: "1"})
    ]
    assert set(listed[0]) - set(listed[1]) == {"relay"}
