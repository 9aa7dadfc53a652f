"""The tiny detector as every kind of file, opened by every backend."""

from dataclasses import replace
from functools import cache

import msgspec
import numpy as np
import pytest
import torch

from bladescan.detectors.cascade import (
    Cascade,
    CascadePart,
    CascadeRule,
    PartScale,
    encode_cascade,
    file_digest,
)
from bladescan.exporting.onnx import export_onnx
from bladescan.heads.classifier import Classifier
from bladescan.heads.detector import DetectorModule, save_detector
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
from tests.tiny import D, bare_encoder, crops, tiny_detector


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The same tiny detector as every kind of file, and a bare encoder."""
    folder = tmp_path_factory.mktemp("detectors")
    save_detector(tiny_detector(), folder / "d.safetensors")
    export_onnx(tiny_detector(), folder / "d.onnx")
    save_detector(bare_encoder(), folder / "bare.safetensors")
    export_onnx(bare_encoder(), folder / "bare.onnx")
    export_onnx(second_detector(), folder / "second.onnx")
    (folder / "d.cascade").write_bytes(encode_cascade(tiny_cascade(folder)))
    return folder


def second_detector():
    """Another tiny detector: the same encoder, another binary head, no one-class head."""
    torch.manual_seed(5)
    return replace(tiny_detector(heads=("binary",)), classifier=Classifier(D, 32).state_dict())


@cache
def tiny_rule():
    """A rule by which half of the crops of `tests.tiny.crops` go on to the second detector."""
    p = np.sort(probabilities(tiny_detector(), crops(6)))
    return CascadeRule(PartScale(0.1, 1.0, 0.4), PartScale(-0.1, 1.0, 0.6), float(p[2:4].mean()), 0.5)


def tiny_cascade(folder, parts=("d.onnx", "second.onnx")):
    manifest = tiny_detector(heads=("binary",)).manifest
    manifest = msgspec.structs.replace(manifest, name="tiny cascade")
    first, second = (CascadePart(name, file_digest(folder / name)) for name in parts)
    return Cascade(manifest, first, second, tiny_rule())


def probabilities(detector, x):
    with torch.inference_mode():
        return DetectorModule(detector)(torch.from_numpy(x))[1].numpy()


def there(scores):
    """The scores of the heads that a detector has, and the embedding."""
    return [values for values in scores if values is not None]


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


def reference(x, manifest=None):
    """What the tiny detector, or the tiny cascade, computes in PyTorch."""
    with torch.inference_mode():
        likelihood, first, embedding = DetectorModule(tiny_detector())(torch.from_numpy(x))
    if manifest is None or "one-class" in manifest.heads:
        return likelihood, first, embedding
    rule, first = tiny_rule(), first.numpy()
    second = probabilities(second_detector(), x)[rule.goes_on(first)]
    return None, rule.joined(first, second), embedding
