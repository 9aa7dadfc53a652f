"""The cards of the detectors that learned from AI-generated faces: their numbers, and their age."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.detectors.cards import Scored, card, from_parts, page
from bladescan.command.describe import read_manifest
from bladescan.detectors.calibration import clopper_pearson
from bladescan.detectors.cascade import read_cascade
from bladescan.detectors.collections import calibrate_by
from bladescan.detectors.manifest import EncoderSpec, Manifest
from bladescan.detectors.shipped import FOLDER
from tests import ROOT

NAMES = ("fast", "accurate", "cascade")


@pytest.fixture(scope="module")
def one():
    rng = np.random.default_rng(0)
    groups = np.repeat(["site", "studio", "sdxl", "flux1"], [30, 10, 20, 20])
    scores = rng.uniform(0.0, 0.6, (80, 3))
    scores[40:] += 0.2
    return Scored("fast", "d" * 64, scores, groups, np.arange(80) >= 40)


def rows(text, first):
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(f"| {first} |")]


def test_the_numbers_of_a_card_are_those_of_the_scores(one):
    held_out = np.linspace(-0.6, -0.1, 99)
    heads = {"binary": calibrate_by("file", held_out)}
    manifest = Manifest(name="d-1", encoder=EncoderSpec("resnet18"), heads=heads, licence="Apache-2.0")
    text = card(one, manifest, n_draws=20)
    assert "99 held-out photographs" in text and "asked for 5%" in text
    threshold = -held_out[4]  # the fifth lowest of 99 is not flagged at 5%: its p-value is 6 / 100
    for group, row in ((name, rows(text, name)[0]) for name in ("site", "studio")):
        inside = one.groups == group
        flagged = one.scores[inside, 0] > threshold
        low, high = clopper_pearson(int(flagged.sum()), int(inside.sum()))
        assert row[1] == str(inside.sum())
        assert row[2] == f"{100 * flagged.mean():.1f} ({100 * low:.0f}-{100 * high:.0f})"
    for view, row in enumerate(rows(text, "sdxl")):
        inside = (one.groups == "sdxl") | ~one.generated
        area = roc_auc_score(one.generated[inside], one.scores[inside, view])
        assert row[2].startswith(f"{area:.2f} (")
        found = one.scores[one.groups == "sdxl", view] > threshold
        assert row[-1].startswith(f"{100 * found.mean():.1f} (")
    assert [row[1] for row in rows(text, r"**mean**")] == ["40", "40"]


def test_a_cascade_of_detectors_that_were_scored_has_their_scores_joined(one):
    path = ROOT / "accurate/bladescan_accurate/cascade.cascade"
    cascade = read_cascade(path)
    known = {cascade.first.sha256: one, cascade.second.sha256: one._replace(scores=one.scores[:, ::-1])}
    found = from_parts(path, known).scores
    for p, q, joined in zip(one.scores.ravel(), one.scores[:, ::-1].ravel(), found.ravel(), strict=True):
        second = np.asarray([q]) if p >= cascade.rule.clear_below else np.empty(0)
        assert joined == cascade.rule.joined(np.asarray([p]), second)
    assert (one.scores.ravel() < cascade.rule.clear_below).any()
    assert from_parts(path, {cascade.first.sha256: one}) is None


def test_the_page_is_of_the_detectors_that_ship():
    text = (ROOT / "docs" / "cards.md").read_text()
    assert text.startswith(page([], list(NAMES)).rstrip("\n")), "stale: python -m benchmarks.detectors.cards"
    files = (
        FOLDER / "fast.onnx",
        *(ROOT / "accurate/bladescan_accurate" / name for name in ("accurate.onnx", "cascade.cascade")),
    )
    for name, file in zip(NAMES, files, strict=True):
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert f" {read_manifest(file).name}, SHA-256 `" in section, f"stale: the card of {name}"
        assert len(rows(section, r"sdxl")) == 2
