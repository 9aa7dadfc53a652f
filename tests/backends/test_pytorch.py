"""What is particular to PyTorch."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bladescan_backends import pytorch as pytorch_backend
from bladescan_backends.pytorch import PyTorchBackend

from bladescan.base.errors import BackendError, UsageError
from bladescan.heads.detector import DetectorModule, save_detector
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
from tests.backends.detectors import open_or_skip, reference
from tests.tiny import D, crops, tiny_detector


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
    for values, wanted in zip(scores[:3], reference(x), strict=True):
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

    event = SimpleNamespace(query=lambda: True, synchronize=lambda: None)
    stream = SimpleNamespace(wait_stream=lambda other: None, record_event=lambda: event)
    monkeypatch.setattr(pytorch_backend, "_compute", watched)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda device=None: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", FakeGraph.capture)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    monkeypatch.setattr(pytorch_backend, "_pinned_copy", torch.clone)
    return captured


def test_pytorch_has_one_graph_for_each_power_of_two_and_no_row_of_another_batch(graphs_on_cpu):
    x = crops(6)
    backend = PyTorchBackend(DetectorModule(tiny_detector()), tiny_detector().manifest, "cpu")
    backend._runner = pytorch_backend._Graphs(DetectorModule(tiny_detector()), "cpu")
    backend._most = 4
    first, second = backend.score(x), backend.score(x[::-1])
    for values, wanted in zip(first[:3], reference(x), strict=True):
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


def test_pytorch_leaves_the_process_its_thread_count(files):
    before = torch.get_num_threads()
    open_or_skip("pytorch", files, threads=before + 1).score(crops(1))
    assert torch.get_num_threads() == before


def test_a_score_that_is_no_number_is_an_error(tmp_path):
    detector = tiny_detector()
    detector.vision["conv1.weight"].fill_(3e38)  # finite, but no sum of them is
    save_detector(detector, tmp_path / "d.safetensors")
    opened = get_plugin("pytorch").open(tmp_path / "d.safetensors", BackendSettings(device="cpu"))
    with pytest.raises(BackendError, match="not finite"):
        opened.score(crops(1))
