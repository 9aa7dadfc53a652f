"""The contract of all backends on a CUDA device, and what is particular to one. Skipped without one."""

import numpy as np
import pytest
import torch

from bladescan.base.errors import BladescanError
from bladescan.exporting.exporter import write_export
from bladescan.exporting.tensorrt import EngineExporter
from bladescan.heads.detector import DetectorModule, save_detector
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
from tests.backends.test_contract import CONTRACT
from tests.once import exported
from tests.tiny import crops, tiny_detector

pytest.importorskip("onnx")
pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detectors")
    save_detector(tiny_detector(), folder / "d.safetensors")
    (folder / "d.onnx").write_bytes(exported("tiny"))
    return folder


def on_cuda(name, files, **settings):
    """The tiny detector on the first CUDA device, or a skip that says why not."""
    status = get_plugin(name).status()
    if "cuda:0" not in status.devices:
        pytest.skip(f"{name} has no CUDA device here: {status.hint or status.version or 'not installed'}")
    if name == "tensorrt" and not (files / "d.engine").exists():
        write_export(
            EngineExporter(files / "d.safetensors", precision="fp32", max_batch=4), files / "d.engine"
        )
    path = files / {"pytorch": "d.safetensors", "onnx": "d.onnx", "tensorrt": "d.engine"}[name]
    return get_plugin(name).open(path, BackendSettings("cuda:0", **settings))


@pytest.fixture(params=["onnx", "pytorch", "tensorrt"])
def backend(request, files):
    opened = on_cuda(request.param, files)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_holds_on_cuda(name, backend):
    CONTRACT[name](backend)


def test_many_batches_of_many_sizes_come_back_in_order_on_cuda(backend):
    x = crops(300)
    with torch.inference_mode():
        expected = DetectorModule(tiny_detector()).embed(torch.from_numpy(x)).numpy()
    for n in (300, 1, 64, 65, 7, 300):
        np.testing.assert_allclose(backend.score(x[:n]).embedding, expected[:n], atol=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_on_cuda(files, precision):
    x = crops(70)
    exact = on_cuda("pytorch", files).score(x)
    rough = on_cuda("pytorch", files, precision=precision).score(x)
    assert 0 < abs(rough.embedding - exact.embedding).max() < 0.05
    again = tiny_detector().mixture.score_samples(rough.embedding)
    np.testing.assert_allclose(rough.log_likelihood, again, rtol=1e-9)


@pytest.mark.parametrize("name", ["onnx", "pytorch", "tensorrt"])
def test_a_device_that_is_not_there_is_refused(name, files):
    on_cuda(name, files).close()
    suffix = {"onnx": ".onnx", "pytorch": ".safetensors", "tensorrt": ".engine"}[name]
    with pytest.raises(BladescanError, match="'cuda:99' is not available") as caught:
        get_plugin(name).open(files / f"d{suffix}", BackendSettings("cuda:99"))
    assert "\n" not in str(caught.value)


def test_the_memory_of_a_closed_pytorch_backend_can_be_had_again(files):
    opened = on_cuda("pytorch", files)
    opened.score(crops(64))
    held = torch.cuda.memory_allocated()
    opened.close()
    assert torch.cuda.memory_allocated() < held


def test_batches_under_way_are_those_of_one_after_the_other_on_cuda(backend):
    x = crops(300)
    expected = [backend.score(x[start : start + 64]) for start in range(0, 300, 64)]
    lent, under_way = np.empty_like(x[:64]), []
    for start in range(0, 300, 64):
        part = x[start : start + 64]
        lent[: len(part)] = part  # every batch in the same memory, overwritten while others are under way
        under_way.append(backend.submit(lent[: len(part)]))
    for scores, wanted in zip(reversed(under_way), reversed(expected), strict=True):
        np.testing.assert_allclose(scores.result().embedding, wanted.embedding, atol=1e-5)
        np.testing.assert_allclose(scores.result().log_likelihood, wanted.log_likelihood, rtol=1e-5)


def test_a_batch_that_the_device_has_no_room_for_is_halved_on_cuda(files):
    x = crops(256)
    opened = on_cuda("pytorch", files)
    expected = opened.score(x)
    opened.close()
    cramped = on_cuda("pytorch", files)
    torch.cuda.empty_cache()
    cramped.score(x[:1])
    room = torch.cuda.memory_reserved() + 96 * 2**20  # less than what 256 crops take in float32
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        scores = cramped.score(x)
        assert cramped._most < 256
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        cramped.close()
    np.testing.assert_allclose(scores.embedding, expected.embedding, atol=1e-4)
