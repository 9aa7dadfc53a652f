"""TensorRT engines run on a fake runtime as on a real one."""

import shlex
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bladescan.base.errors import BackendError, DetectorError, DeviceUnavailableError, UsageError
from bladescan.command import app as cli
from bladescan.command.describe import read_manifest
from bladescan.exporting.exporter import write_export
from bladescan.exporting.tensorrt import EngineExporter
from bladescan.heads.detector import DetectorModule, save_detector
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.cuda import OutOfDeviceMemoryError
from bladescan.runtimes.engine_file import encode_engine, read_engine, rebuild_command
from bladescan.runtimes.registry import choose_plugin, get_plugin
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.scan_options import Decision, ScanOptions
from bladescan.scanning.scanner import Scanner
from tests.backends.test_contract import CONTRACT
from tests.tiny import D, bare_encoder, crops, tiny_detector

pytest.importorskip("onnx")


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
        for values, wanted in zip(scores[:3], expected, strict=True):
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


def test_batches_under_way_are_computed_on_their_own_and_kept_when_a_slot_is_needed(backend):
    x = crops(11)
    expected = backend.score(x)
    first, second = backend.submit(x[:2]), backend.submit(x[2:4])  # one in each slot
    assert not first.done()
    assert first.done()  # the device has got on meanwhile
    whole = backend.submit(x)  # takes both slots again and again
    for pending, rows in ((whole, slice(0, 11)), (second, slice(2, 4)), (first, slice(0, 2))):
        for values, wanted in zip(pending.result()[:3], expected, strict=False):
            np.testing.assert_allclose(values, wanted[rows], rtol=1e-4, atol=1e-6)


def test_a_batch_that_fails_takes_no_other_with_it(fake, backend, monkeypatch):
    x = crops(5)
    expected = backend.score(x[:2])
    good = backend.submit(x[:2])
    with monkeypatch.context() as patched:
        patched.setattr(fake.tensorrt.Context, "execute_async_v3", lambda self, stream: False)
        with pytest.raises(BackendError, match="failed to run the engine"):
            backend.submit(x)
    np.testing.assert_array_equal(good.result().embedding, expected.embedding)


def test_what_fails_under_way_is_told_to_whom_it_belongs(fake, backend, monkeypatch):
    x = crops(6)
    bad, next_one = backend.submit(x[:3]), backend.submit(x[3:])
    failed = fake.cuda.cudaError_t.cudaErrorInvalidValue
    with monkeypatch.context() as patched:
        patched.setattr(fake.cuda, "cudaEventSynchronize", lambda event: (failed,))
        with pytest.raises(BackendError, match="^CUDA: cudaEventSynchronize failed: cudaErrorInvalidValue$"):
            bad.result()
    assert bad.done()
    with pytest.raises(BackendError, match="^tensorrt: this batch was lost: CUDA: cudaEventSync"):
        bad.result()
    np.testing.assert_array_equal(next_one.result().embedding, backend.embed(x[3:]))


def test_batches_under_way_are_lost_when_the_backend_closes(fake, engine):
    opened = get_plugin("tensorrt").open(engine, BackendSettings())
    pending, kept = opened.submit(crops(2)), opened.submit(crops(1))
    kept.result()
    opened.close()
    assert not fake.cuda.allocated and not fake.cuda.streams and not fake.cuda.events
    assert kept.result().embedding.shape == (1, D)
    with pytest.raises(BackendError, match="this batch was lost: the backend is closed"):
        pending.result()


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
    with pytest.raises(DetectorError, match="^my engine.engine: ") as caught:
        get_plugin("tensorrt").open(stale, BackendSettings())
    said, _, command = str(caught.value).partition("; build it again: ")
    assert why in said and "\n" not in said
    assert command == rebuild_command(read_engine(engine).build, stale)


def test_the_command_that_rebuilds_an_engine_does(fake, engine, tmp_path, monkeypatch):
    monkeypatch.setattr(fake.tensorrt, "__version__", "10.100.0")
    stale = tmp_path / "my engine.engine"
    stale.write_bytes(engine.read_bytes())
    shutil.copy(engine.parent / "d.safetensors", tmp_path)
    program, *arguments = shlex.split(rebuild_command(read_engine(engine).build, stale))
    assert program == "bladescan"
    monkeypatch.chdir(tmp_path)
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
