"""The encoder is taken out of a detector whole, and sets are thinned evenly."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.quality.training_free import bare_encoder, thinned
from bladescan.detectors.manifest import Preprocessing
from bladescan.detectors.shipped import shipped_detector
from bladescan.runtimes.onnx_session import open_session
from tests.tiny import crops


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
