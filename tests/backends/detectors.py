"""The tiny detector as every kind of file, opened by every backend."""

import pytest
import torch

from bladescan.exporting.onnx import export_onnx
from bladescan.heads.detector import DetectorModule, save_detector
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
from tests.tiny import bare_encoder, tiny_detector


@pytest.fixture(scope="session")
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


def openvino_has_bf16():
    pytest.importorskip("openvino")
    from bladescan_backends.openvino import _core  # a second one would break signals

    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def reference(x):
    """What the tiny detector computes in PyTorch."""
    with torch.inference_mode():
        return DetectorModule(tiny_detector())(torch.from_numpy(x))
