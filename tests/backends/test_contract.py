"""One contract for every registered backend."""

import pickle
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from bladescan.base.errors import (
    BackendError,
    DetectorError,
    DeviceUnavailableError,
    MissingDependencyError,
    UsageError,
)
from bladescan.base.records import FaceVerdict, Verdict
from bladescan.detectors.manifest import FACE_RULE
from bladescan.detectors.suspicion import suspicion
from bladescan.runtimes.backend import Backend, BackendPlugin, BackendSettings
from bladescan.runtimes.registry import get_plugin, plugin_names
from bladescan.scanning.explainer import Explainer, SeenFace
from bladescan.scanning.occlusion import cell_map, covered_copies
from tests.backends.detectors import (
    Bomb,
    combined_manifest,
    open_or_skip,
    openvino_has_bf16,
    reference,
    there,
)
from tests.tiny import D, crops, tiny_detector

onnx = pytest.importorskip("onnx")


@pytest.fixture(params=plugin_names())
def backend(request, files):
    opened = open_or_skip(request.param, files)
    yield opened
    opened.close()


def test_contract_it_is_a_backend(backend):
    assert isinstance(backend, Backend)
    assert backend.device in ("cpu", "cuda:0")
    tiny = tiny_detector().manifest
    if "combined" in backend.manifest.heads:
        tiny = combined_manifest()
    elif "one-class" not in backend.manifest.heads:  # a cascade
        tiny = msgspec.structs.replace(
            tiny, name="tiny cascade", heads={"binary": tiny.heads["binary"]}, default_head="binary"
        )
    assert backend.manifest == tiny


def test_contract_scores_have_the_promised_types(backend):
    scores = backend.score(crops(3))
    by_head = {
        "one-class": scores.log_likelihood,
        "binary": scores.p_ai_generated,
        "combined": scores.combined,
    }
    for head, values in by_head.items():
        if head in backend.manifest.heads:
            assert (values.dtype, values.shape) == (np.float64, (3,))
        else:
            assert values is None
    assert (scores.embedding.dtype, scores.embedding.shape) == (np.float32, (3, D))
    np.testing.assert_array_equal(backend.embed(crops(3)), scores.embedding)


def test_contract_an_empty_batch_has_empty_scores(backend):
    scores = backend.score(crops(0))
    *of_heads, embedding = there(scores)
    assert {(values.shape, values.dtype.name) for values in of_heads} == {((0,), "float64")}
    assert len(of_heads) == len(backend.manifest.heads)
    assert embedding.shape == backend.embed(crops(0)).shape == (0, D)


def test_contract_it_agrees_with_the_torch_reference(backend):
    x = crops(6)
    likelihood, probability, embedding = reference(x, backend.manifest)
    scores = backend.score(x)
    if "combined" in backend.manifest.heads:
        np.testing.assert_allclose(scores.combined, likelihood, atol=1e-3)
    elif likelihood is not None:
        np.testing.assert_allclose(scores.log_likelihood, likelihood, rtol=1e-3)
    if probability is not None:
        np.testing.assert_allclose(scores.p_ai_generated, probability, atol=1e-3)
    np.testing.assert_allclose(scores.embedding, embedding, atol=1e-4)


def test_contract_a_row_does_not_depend_on_its_batch(backend):
    x = crops(7)
    whole = backend.score(x)
    for size in (1, 3):
        parts = [backend.score(x[i : i + size]) for i in range(0, 7, size)]
        for values, rows in zip(there(whole), zip(*map(there, parts), strict=True), strict=True):
            np.testing.assert_allclose(np.concatenate(rows), values, rtol=1e-4, atol=1e-6)


def test_contract_a_face_is_explained_alike_whatever_the_batch(backend):
    x, head = crops(1), backend.manifest.default_head
    copies = np.concatenate([x, covered_copies(x[0])])
    likelihood, probability, _ = map(_numpy, reference(copies, backend.manifest))
    scores = suspicion(-probability if head == "binary" else likelihood, head)
    face = FaceVerdict(0, None, None, None, 0.25, Verdict.AI_GENERATED, head, float(scores[0]), None, 0.25)
    for batch_size in (1, 50):
        explainer = Explainer(backend, head, FACE_RULE, batch_size)
        found = explainer.explain(face, SeenFace(x[0], backend.embed(x)[0], crops(0), (224, 224))).explanation
        expected = cell_map(scores[0] - scores[1:])
        np.testing.assert_allclose(found.grid, expected, atol=0.02 * np.abs(expected).max())


def _numpy(values):
    return None if values is None else np.asarray(values)


def test_contract_crops_may_be_read_only_or_not_contiguous(backend):
    x = crops(4)
    x.flags.writeable = False
    np.testing.assert_allclose(backend.embed(x[::2]), backend.embed(x)[::2], atol=1e-5)


def test_contract_batches_under_way_come_back_whole_whatever_is_asked_first(backend):
    x = crops(9)
    expected = backend.score(x)
    lent = x.copy()
    under_way = [backend.submit(lent[start : start + 3]) for start in (0, 3, 6)]
    lent[:] = 0  # whoever submits may use the memory again
    for number in (2, 0, 1):
        result = under_way[number].result()
        assert under_way[number].done() and under_way[number].result() is result
        for values, rows in zip(there(expected), there(result), strict=True):
            np.testing.assert_allclose(rows, values[3 * number : 3 * number + 3], rtol=1e-4, atol=1e-6)


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
    for method in (backend.score, backend.embed, lambda crops: backend.submit(crops).result()):
        with pytest.raises(BackendError, match="crops must be uint8"):
            method(wrong)


def test_contract_closing_twice_is_fine_and_scoring_afterwards_is_an_error(backend):
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.score(crops(1))
    with pytest.raises(BackendError, match="closed"):
        backend.submit(crops(1)).result()


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


@pytest.mark.parametrize(
    "name,precision",
    [("cascade", "fp32"), ("combined", "fp32"), ("onnx", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")],
)
def test_rows_are_the_same_bits_whatever_batch_and_threads(name, precision, files):
    if precision == "bf16" and not openvino_has_bf16():
        pytest.skip("this CPU has no bf16 instructions")
    x = crops(33)
    expected = open_or_skip(name, files, threads=1, precision=precision).score(x)
    for threads in (1, 2):
        opened = open_or_skip(name, files, threads=threads, precision=precision)
        for size in (1, 2, 11, 32):
            parts = [opened.score(x[i : i + size]) for i in range(0, 33, size)]
            for values, rows in zip(there(expected), zip(*map(there, parts), strict=True), strict=True):
                np.testing.assert_array_equal(np.concatenate(rows), values)


@pytest.mark.parametrize("name", ["cascade", "combined", "onnx", "openvino", "pytorch"])
def test_importing_a_plugin_imports_no_runtime(name):
    runtimes = "{'torch', 'onnx', 'onnxruntime', 'openvino'} & set(sys.modules)"
    code = f"import sys, bladescan_backends.{name}; sys.exit(bool({runtimes}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(("name", "suffix"), [("onnx", ".onnx"), ("pytorch", ".safetensors")])
def test_a_malicious_pickle_is_never_executed(tmp_path, name, suffix):
    path = tmp_path / f"evil{suffix}"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    with pytest.raises(DetectorError, match="^evil"):
        get_plugin(name).open(path, BackendSettings(device="cpu"))
    assert not (tmp_path / "executed").exists()


CONTRACT = {
    name.removeprefix("test_contract_"): check
    for name, check in list(globals().items())
    if name.startswith("test_contract_") and not hasattr(check, "pytestmark")
}
"""The checks by name, for backends that need a device or a fake one."""
