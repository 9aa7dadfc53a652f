"""Sketches of a calibration's photographs say how near an embedding is, and nothing more."""

import base64

import numpy as np
import pytest

from bladescan.base.errors import DetectorError
from bladescan.detectors import neighbours
from bladescan.detectors.manifest import Neighbours
from bladescan.detectors.neighbours import N_BITS, Neighbourhood, make_neighbours, sketch


def embeddings(n, d=48, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def naive_angle(a, b):
    """Of two sketches, bit by bit."""
    bits = ["".join(f"{byte:08b}" for byte in one) for one in (a, b)]
    return 180 * sum(x != y for x, y in zip(*bits, strict=True)) / N_BITS


@pytest.mark.parametrize("angle", [0, 20, 60, 90, 180])
def test_a_sketch_keeps_the_angle(angle):
    a, b = np.linalg.qr(embeddings(48).T.astype(np.float64))[0].T[:2]
    turned = np.cos(np.radians(angle)) * a + np.sin(np.radians(angle)) * b
    one, other = sketch(np.stack([a, 3.0 * turned]).astype(np.float32))  # the length does not count
    p = angle / 180
    assert abs(naive_angle(one, other) - angle) <= 3 * 180 * np.sqrt(p * (1 - p) / N_BITS) + 1e-9


def test_the_nearest_are_those_of_a_loop_over_bits():
    known, face = embeddings(20), embeddings(1, seed=1)[0]
    around = Neighbourhood(make_neighbours(known), where="d")
    sketches, asked = sketch(known), sketch(face[None])[0]
    angles = sorted(naive_angle(asked, one) for one in sketches)
    assert around.nearest(face, 3).tolist() == angles[:3]
    own = [min(naive_angle(a, b) for j, b in enumerate(sketches) if j != i) for i, a in enumerate(sketches)]
    assert around.own.tolist() == sorted(own)
    for angle in (0.0, sorted(own)[7], 181.0):
        assert around.n_as_far(angle) == sum(one >= angle for one in own)


def test_a_photograph_of_the_calibration_is_its_own_nearest_and_few_are_kept_of_many(monkeypatch):
    monkeypatch.setattr(neighbours, "MOST", 10)
    known = embeddings(35)
    around = Neighbourhood(make_neighbours(known), where="d")
    assert len(around.own) == 10
    assert around.nearest(known[0], 1)[0] == around.nearest(known[34], 1)[0] == 0.0
    alone = Neighbourhood(make_neighbours(known[:1]), where="d")
    assert alone.own.tolist() == [180.0]


@pytest.mark.parametrize(
    "kept",
    [
        Neighbours(1, "!"),
        Neighbours(2, base64.b64encode(bytes(32)).decode()),
        Neighbours(0, ""),
        Neighbours(-1, ""),
    ],
)
def test_what_is_no_sketches_is_an_error_that_names_the_detector(kept):
    with pytest.raises(DetectorError, match="^mine: "):
        Neighbourhood(kept, where="mine")
