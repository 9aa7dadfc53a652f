"""The tiny detector as every kind of file, opened by every backend."""

from functools import cache

import msgspec
import numpy as np
import pytest
import torch
from bladescan_backends._onnx_detector import read_onnx_detector
from bladescan_backends._onnx_runs import RunsAhead
from bladescan_backends.onnx import OnnxBackend

from bladescan.detectors.cascade import (
    Cascade,
    CascadeRule,
    PartScale,
    encode_cascade,
)
from bladescan.detectors.combination import calibrate_together, combined_scores
from bladescan.detectors.combined_file import CombinedFile, encode_combined
from bladescan.detectors.parts import DetectorPart, file_digest, part_of
from bladescan.heads.detector import DetectorModule, save_detector
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.onnx_session import open_session
from bladescan.runtimes.registry import get_plugin
from bladescan.runtimes.several import manifest_of_several
from tests.once import exported
from tests.tiny import bare_encoder, crops, faces_like, second_detector, tiny_detector


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The same tiny detector as every kind of file, and a bare encoder."""
    folder = tmp_path_factory.mktemp("detectors")
    save_detector(tiny_detector(), folder / "d.safetensors")
    save_detector(bare_encoder(), folder / "bare.safetensors")
    for name, stem in (("tiny", "d"), ("bare", "bare"), ("second", "second")):
        (folder / f"{stem}.onnx").write_bytes(exported(name))
    (folder / "d.cascade").write_bytes(encode_cascade(tiny_cascade(folder)))
    (folder / "d.combined").write_bytes(encode_combined(tiny_combined(folder)))
    return folder


@cache
def tiny_rule():
    """A rule by which half of the crops of `tests.tiny.crops` go on to the second detector."""
    p = np.sort(probabilities(tiny_detector(), crops(6)))
    return CascadeRule(PartScale(0.1, 1.0, 0.4), PartScale(-0.1, 1.0, 0.6), float(p[2:4].mean()), 0.5)


def tiny_cascade(folder, parts=("d.onnx", "second.onnx")):
    manifest = tiny_detector(heads=("binary",)).manifest
    manifest = msgspec.structs.replace(manifest, name="tiny cascade")
    first, second = (DetectorPart(name, file_digest(folder / name)) for name in parts)
    return Cascade(manifest, first, second, tiny_rule())


@cache
def combined_manifest():
    """The one-class head of the tiny detector and the binary head of the second, on thirty pictures."""
    x = faces_like(30)
    table = np.stack([likelihoods(tiny_detector(), x), -probabilities(second_detector(), x)], 1)
    named = [("d", tiny_detector().manifest), ("second", second_detector().manifest)]
    manifest = manifest_of_several(named, "stouffer")
    components, head = calibrate_together("stouffer", manifest.combination.components, table)
    combination = msgspec.structs.replace(manifest.combination, components=components, seen_together=True)
    return msgspec.structs.replace(manifest, heads={"combined": head}, combination=combination)


def tiny_combined(folder, parts=("d.onnx", "second.onnx")):
    return CombinedFile(combined_manifest(), tuple(part_of(folder / name) for name in parts))


def likelihoods(detector, x):
    with torch.inference_mode():
        return DetectorModule(detector)(torch.from_numpy(x))[0].numpy()


def probabilities(detector, x):
    with torch.inference_mode():
        return DetectorModule(detector)(torch.from_numpy(x))[1].numpy()


def there(scores):
    """The scores of the heads that a detector has, and last the embedding."""
    *heads, embedding = scores.log_likelihood, scores.p_ai_generated, scores.combined, scores.embedding
    return [values for values in (*heads, embedding) if values is not None]


def open_or_skip(name, files, stem="d", **settings):
    plugin = get_plugin(name)
    status = plugin.status()
    if status.version is None:
        pytest.skip(f"{name} is not installed: {status.hint}")
    for suffix in plugin.suffixes:
        if (files / f"{stem}{suffix}").exists():
            return plugin.open(files / f"{stem}{suffix}", BackendSettings(**{"device": "cpu", **settings}))
    pytest.skip(f"no {' or '.join(plugin.suffixes)} detector can be made here for {name}")


def runs_ahead(path):
    """An exported detector as it runs on a CUDA device, but on the CPU: crops bound, runs in a thread."""
    _, manifest = read_onnx_detector(path)
    session = open_session(path)
    outputs = tuple(output.name for output in session.get_outputs())
    return OnnxBackend(RunsAhead(session, "cpu", 4096), outputs, manifest, "cpu")


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
    if "combined" in manifest.heads:
        columns = np.stack([likelihood.numpy(), -probabilities(second_detector(), x)], 1)
        return combined_scores(manifest.combination, columns), None, embedding
    rule, first = tiny_rule(), first.numpy()
    second = probabilities(second_detector(), x)[rule.goes_on(first)]
    return None, rule.joined(first, second), embedding
