import json
import os
import pickle

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import save_file

from bladescan.base.errors import DetectorError, OutputError
from bladescan.detectors.manifest import METADATA_KEY, EncoderSpec, encode_manifest
from bladescan.heads.detector import Detector, DetectorModule, load_detector, save_detector
from tests.tiny import D, bare_encoder, crops, tiny_detector


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
def test_a_detector_survives_its_file(tmp_path, covariance):
    detector = tiny_detector(covariance)
    save_detector(detector, tmp_path / "d.safetensors")
    loaded = load_detector(tmp_path / "d.safetensors")
    assert loaded.manifest == detector.manifest
    x = torch.from_numpy(crops(3))
    with torch.inference_mode():
        for a, b in zip(DetectorModule(detector)(x), DetectorModule(loaded)(x), strict=True):
            assert torch.equal(a, b)


def test_the_same_detector_is_the_same_file(tmp_path):
    for name in ("a", "b"):
        save_detector(tiny_detector(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_outputs_have_the_promised_types_and_meaning():
    detector = tiny_detector()
    with torch.inference_mode():
        likelihood, probability, embedding = DetectorModule(detector)(torch.from_numpy(crops(4)))
    assert (likelihood.dtype, likelihood.shape) == (torch.float64, (4,))
    assert (probability.dtype, probability.shape) == (torch.float64, (4,))
    assert (embedding.dtype, embedding.shape) == (torch.float32, (4, D))
    np.testing.assert_allclose(embedding.norm(dim=1), 1, rtol=1e-6)
    np.testing.assert_allclose(likelihood, detector.mixture.score_samples(embedding.numpy()), rtol=1e-12)


def test_pixels_are_normalised_as_the_manifest_says():
    detector = bare_encoder()
    raw = replace(detector.manifest, encoder=replace(detector.manifest.encoder, normalise=False))
    module = DetectorModule(Detector(raw, detector.vision))
    x = crops(2)
    rules = detector.manifest.preprocessing
    by_hand = (x.astype(np.float64) / 255 - rules.mean) / rules.std
    with torch.inference_mode():
        expected = module.encoder(torch.from_numpy(by_hand).float().permute(0, 3, 1, 2))
        torch.testing.assert_close(module(torch.from_numpy(x))[2], expected, rtol=1e-4, atol=1e-5)


def test_a_bare_encoder_gives_only_embeddings(tmp_path):
    save_detector(bare_encoder(), tmp_path / "e.safetensors")
    module = DetectorModule(load_detector(tmp_path / "e.safetensors"))
    likelihood, probability, embedding = module(torch.from_numpy(crops(1)))
    assert likelihood is None and probability is None
    assert embedding.shape == (1, D)


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_malicious_pickle_is_never_executed(tmp_path, how):
    mark = tmp_path / "executed"
    path = tmp_path / "evil.safetensors"
    if how == "torch":
        torch.save({"model": Bomb(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(DetectorError, match="^evil.safetensors: not a complete safetensors file"):
        load_detector(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark))).close()
    assert mark.exists()  # the bomb is live: only not loading it kept it from going off


def test_files_that_are_no_detector_get_one_line(tmp_path):
    good = tmp_path / "good.safetensors"
    save_detector(tiny_detector(), good)
    whole = good.read_bytes()
    files = {
        "empty": b"",
        "random": np.random.default_rng(0).bytes(5000),
        "truncated": whole[: len(whole) // 2],
        "header": whole[:100],
        "longer": whole + b"x",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DetectorError, match=f"^{name}: not a complete safetensors file") as caught:
            load_detector(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(DetectorError, match="is a folder"):
        load_detector(tmp_path)
    with pytest.raises(DetectorError, match="cannot be read"):
        load_detector(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("both.combined", "is made of several detectors, expected one of them"),
        ("fast.cascade", "is made of several detectors, expected one of them"),
        ("fast.onnx", "is exported already, expected what it was exported from"),
        ("fast.engine", "is exported already, expected what it was exported from"),
    ],
)
def test_a_detector_of_another_kind_is_said_to_be(tmp_path, name, said):
    (tmp_path / name).write_text("{}")
    with pytest.raises(DetectorError, match=said):
        load_detector(tmp_path / name)


def test_a_foreign_safetensors_file_is_told(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "f")
    with pytest.raises(DetectorError, match="^f: not a bladescan detector: it has no manifest"):
        load_detector(tmp_path / "f")


def test_a_newer_detector_is_told(tmp_path):
    manifest = {**json.loads(encode_manifest(bare_encoder().manifest)), "format_version": 99}
    save_file({"x": torch.zeros(1)}, tmp_path / "n", metadata={METADATA_KEY: json.dumps(manifest)})
    with pytest.raises(DetectorError, match="^n: made by a newer bladescan"):
        load_detector(tmp_path / "n")


def changed(detector, **tensors):
    from bladescan.heads.detector import _all_tensors

    return {k: v for k, v in {**_all_tensors(detector), **tensors}.items() if v is not None}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"vision.conv1.weight": None}, "tensor 'vision.conv1.weight' is missing"),
        ({"vision.odd": torch.zeros(1)}, "unexpected tensor 'vision.odd'"),
        ({"stray": torch.zeros(1)}, "unexpected tensor 'stray'"),
        ({"mixture.means": None}, "tensor 'mixture.means' is missing"),
        ({"mixture.extra": torch.zeros(1)}, "unexpected tensor 'mixture.extra'"),
        ({"mixture.means": torch.zeros(3, 5)}, r"'mixture.means' has shape \[3, 5\], expected \[3, 24\]"),
        ({"mixture.precisions_cholesky": torch.zeros(2, 2)}, "'mixture.precisions_cholesky' has shape"),
        ({"mixture.weights": torch.tensor([1.0, 0.0, 0.0])}, "not positive"),
        ({"mixture.weights": torch.tensor([1, 1, 1])}, "values that are not finite"),
        ({"classifier.fc2.bias": torch.full((2,), torch.inf)}, "'classifier.fc2.bias' has values"),
        ({"classifier.fc2.weight": None}, "tensor 'classifier.fc2.weight' is missing"),
    ],
)
def test_wrong_tensors_are_named(tmp_path, tensors, message):
    detector = tiny_detector()
    header = {METADATA_KEY: encode_manifest(detector.manifest)}
    save_file(changed(detector, **tensors), tmp_path / "w", metadata=header)
    with pytest.raises(DetectorError, match=f"^w: .*{message}"):
        load_detector(tmp_path / "w")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: replace(m, encoder=EncoderSpec("vit")), "unknown vision encoder 'vit'"),
        (lambda m: replace(m, encoder=EncoderSpec("resnet10", 10**6)), "out of bounds"),
        (lambda m: replace(m, heads={}), "head 'one-class' has no calibration"),
        (lambda m: replace(m, default_head=None), "default head None"),
    ],
)
def test_a_manifest_that_does_not_fit_its_tensors_is_refused(tmp_path, change, message):
    detector = tiny_detector()
    wrong = Detector(change(detector.manifest), detector.vision, detector.mixture, detector.classifier)
    with pytest.raises(DetectorError, match=message):
        save_detector(wrong, tmp_path / "w")
    assert os.listdir(tmp_path) == []


def test_a_head_without_tensors_is_refused(tmp_path):
    detector = tiny_detector()
    with pytest.raises(DetectorError, match="head 'binary' has no tensors"):
        save_detector(Detector(detector.manifest, detector.vision, detector.mixture), tmp_path / "w")


def test_a_detector_that_cannot_be_written_leaves_the_old_file(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        save_detector(bare_encoder(), tmp_path / "absent" / "d.safetensors")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        save_detector(bare_encoder(), tmp_path / "taken")
    assert os.listdir(tmp_path) == ["taken"]
