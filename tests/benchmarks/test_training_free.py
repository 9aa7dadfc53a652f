"""The encoder is taken out of a detector whole, and sets are thinned evenly."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.quality.small_autoencoder import train_autoencoder
from benchmarks.quality.training_free import bare_encoder, last_map, thinned
from bladescan.detectors.manifest import Preprocessing
from bladescan.detectors.shipped import shipped_detector
from bladescan.foreign.encoders import load_foreign_encoder
from bladescan.runtimes.onnx_session import open_session
from tests.foreign.test_reconstruction import save_autoencoder
from tests.tiny import crops, faces_like


def test_the_encoder_alone_gives_the_embedding_of_the_detector(tmp_path):
    detector = shipped_detector("blades")
    assert detector.suffix == ".onnx"
    bare_encoder(detector, tmp_path / "e.onnx")
    given, rule = crops(2), Preprocessing()
    pixels = (given / 255.0 - np.array(rule.mean)) / np.array(rule.std)
    session = open_session((tmp_path / "e.onnx").read_bytes())
    name = session.get_inputs()[0].name
    found = session.run(["embedding"], {name: pixels.transpose(0, 3, 1, 2).astype(np.float32)})[0]
    whole = open_session(detector.read_bytes())
    np.testing.assert_allclose(found, whole.run(["embedding"], {"crops": given})[0], atol=1e-5)
    assert len(session.get_inputs()) == len(session.get_outputs()) == 1


def test_groups_are_thinned_together():
    groups = {"a": [Path(f"a{i}") for i in range(5)], "b": [Path(f"b{i}") for i in range(2)]}
    assert thinned(groups, 3) == {"a": [Path("a0"), Path("a3")], "b": [Path("b1")]}
    assert thinned(groups, 9) == groups


def test_a_small_autoencoder_takes_pictures_of_the_crops_size(tmp_path):
    given = faces_like(4)
    error = train_autoencoder(given, 0.5, tmp_path / "a.onnx")
    pictures = given.transpose(0, 3, 1, 2).astype(np.float32) / 255
    made = open_session((tmp_path / "a.onnx").read_bytes()).run(["made"], {"picture": pictures})[0]
    assert made.shape == pictures.shape and 0 < error < 1.5


def test_the_last_map_of_a_detector_is_found_and_compared_place_by_place(tmp_path):
    detector = shipped_detector("blades")
    bare_encoder(detector, tmp_path / "e.onnx")
    changes = [
        "encoder.mean=0.5,0.5,0.5",
        "encoder.std=0.25,0.25,0.25",
        "encoder.movement=reconstruction",
        f"encoder.autoencoder={save_autoencoder(tmp_path / 'a.onnx')}",
        f"encoder.output={last_map(detector)}",
        "encoder.tokens=places",
    ]
    encoder = load_foreign_encoder(f"onnx:{tmp_path / 'e.onnx'}", changes)
    moved = open_session(encoder.graph).run(["embedding"], {"crops": faces_like(3)})[0]
    assert moved.shape == (3, 1) and (np.exp(moved) > 1e-6).all() and len(np.unique(moved)) == 3
