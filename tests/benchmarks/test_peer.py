"""The peer answers from a process of its own, and equal detectors come out equal."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality import peer

STAND_IN = """
__version__ = "0"
def warm(): pass
class detect:
    def __init__(self, path):
        self.ai_probability = float(open(path).read())
"""


def test_the_peer_answers_in_turn_and_a_file_that_it_refuses_ends_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "sahu65.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    files = [tmp_path / name for name in ("a\nb", "none", "ü")]
    files[0].write_text("0.25")
    files[2].write_text("1")
    child = peer.Peer(Path(sys.executable))
    answers = [child.score(path) for path in files]
    child.close()
    assert (answers[0], answers[2]) == (0.25, 1) and math.isnan(answers[1])
    assert "none: sahu65: FileNotFoundError" in capsys.readouterr().err


def test_a_python_without_the_peer_is_said(tmp_path, monkeypatch):
    (tmp_path / "sahu65.py").write_text("raise SystemExit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SystemExit, match="does --peer-python have sahu65"):
        peer.Peer(Path(sys.executable))


def test_a_detector_is_not_ahead_of_its_equal_and_is_ahead_of_its_opposite():
    rng = np.random.default_rng(0)
    sets = {name: rng.normal(shift, 1, 40) for name, shift in (("photographs", 0), ("a", 3), ("b", 3))}
    opposite = {name: -scores for name, scores in sets.items()}
    *_, equal = peer.accuracy_table({"binary": sets, peer.PEER: sets})
    assert equal.endswith("AUC +0.00 (+0.00 to +0.00), TPR at 5% +0.00 (+0.00 to +0.00)")
    *_, ahead = peer.accuracy_table({"binary": sets, peer.PEER: opposite})
    assert "AUC +0.9" in ahead
