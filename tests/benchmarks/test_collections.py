"""What the benchmark of collections says where the truth is known, and who takes whose sketches."""

import numpy as np
import pytest

from benchmarks.detectors.sketches import with_sketches
from benchmarks.quality.collections import STUDIO, Scored, calibrated, left_out, row
from bladescan.base.errors import UsageError
from bladescan.detectors.calibration import p_values
from bladescan.detectors.manifest import EncoderSpec, Manifest
from bladescan.detectors.neighbours import make_neighbours


def scored(n_collections, n=20):
    rng = np.random.default_rng(0)
    names = np.repeat([f"{k:02}" for k in range(n_collections)], n)
    ours = rng.normal(size=len(names))
    ours[:n] += 100.0  # the first is far off
    return Scored("d", ours, names, np.asarray([0.0, 50.0, 200.0]))


def test_a_collection_is_judged_by_the_others():
    found = left_out(scored(21), "folder", 0.05)
    assert found.flagged[0] == 1.0 and found.flagged[1:].max() == 0.0
    # Without the first 50 is beyond all; with it, one folder of twenty lies beyond 50, and 5% allows none.
    assert found.found[0] == pytest.approx(2 / 3) and set(found.found[1:]) == {1 / 3}


def test_a_rate_that_cannot_be_had_is_said_in_the_row():
    assert row("d", [scored(14)], "folder", 0.05)[4:] == ["needs 19 collections", "-", "-", "-"]
    assert row("d", [scored(14)], "file", 0.05)[-2] == "1 of 14"


def test_the_strictest_of_two_kinds_is_the_portraits_or_all_others():
    scores, names = np.arange(80.0), np.repeat(["a", "b", STUDIO, "c"], 20)
    head = calibrated("strictest kind", scores, names, 0.05)
    kinds = (names == STUDIO, names != STUDIO)
    naive = [max((1 + (scores[k] <= s).sum()) / (1 + k.sum()) for k in kinds) for s in scores]
    assert p_values(head, scores).tolist() == pytest.approx(naive)
    others = names != STUDIO
    assert calibrated("strictest kind", scores[others], names[others], 0.05).by == "file"


def test_sketches_go_to_a_detector_that_embeds_alike():
    kept = make_neighbours(np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32))
    giver = Manifest(name="giver", encoder=EncoderSpec("resnet18"), neighbours=kept)
    taker = Manifest(name="taker", encoder=EncoderSpec("resnet18"))
    assert with_sketches(taker, giver).neighbours == kept and with_sketches(taker, giver).name == "taker"
    with pytest.raises(UsageError, match="'taker' keeps no sketches"):
        with_sketches(giver, taker)
    with pytest.raises(UsageError, match="embeds otherwise"):
        with_sketches(Manifest(name="other", encoder=EncoderSpec("resnet50")), giver)
