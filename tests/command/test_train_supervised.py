"""A detector from labelled faces with the real commands: train, scan, export, and what cannot be."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from bladescan.training.runs import read_history
from tests.command.test_train import history

CHANGES = [
    part
    for change in (
        "encoder.name=gramnet",
        "encoder.width=8",
        "encoder.embedding_dim=16",
        "augmentation.window=64",
        "inner.batch_size=8",
        "inner.lr=1.0e-3",
        "inner.epochs=3",
        "data.held_out=0.45",
        "workers=0",
    )
    for part in ("--set", change)
]


@pytest.fixture(scope="module")
def pictures(samples, tmp_path_factory):
    """Portraits, each before other colours; those that count as AI-generated are smooth."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    portrait = Image.open(samples / "portrait.jpg")
    for kind, n in (("photographs", 60), ("generated", 30)):
        (folder / kind).mkdir()
        for i in range(n):
            blocks = Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8))
            picture = blocks.resize((480, 480), Image.Resampling.NEAREST)
            side = int(rng.integers(200, 280))
            small = portrait if kind == "photographs" else portrait.resize((48, 48))
            picture.paste(small.resize((side, side)), tuple(int(v) for v in rng.integers(0, 480 - side, 2)))
            picture.save(folder / kind / f"{i}.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def run(bladescan, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "gramnet"
    given = ["--photos", pictures / "photographs", "--ai-generated", pictures / "generated"]
    done = bladescan("train", "--recipe", "gramnet", *given, "-o", out, *CHANGES)
    assert done.returncode == 0, done.stderr.decode()
    assert b"60 photographs with a face" in done.stderr and b"detector.safetensors" in done.stderr
    assert b"30 AI-generated pictures with a face" in done.stderr
    return out


def test_the_run_has_a_detector_calibrated_by_photographs_that_it_has_not_learned_from(bladescan, run):
    shown = bladescan("info", run / "detector.safetensors", "--json")
    manifest = json.loads(shown.stdout)
    head = manifest["heads"]["binary"]
    n_measured = history(run)[-1]["held_out"]["origin"]["n"]
    assert 19 <= head["n_held_out"] < n_measured < 60 and manifest["default_head"] == "binary"
    assert head["n_held_out"] + manifest["provenance"]["n_photographs"] < 90
    assert manifest["encoder"] == {
        "name": "gramnet",
        "width": 8,
        "embedding_dim": 16,
        "normalise": False,
        "batch": 0,
    }
    assert [line["step"] for line in read_history(run)]


def test_it_scans_alike_as_it_is_and_exported(bladescan, run, pictures, tmp_path):
    detector, exported = run / "detector.safetensors", tmp_path / "d.onnx"
    assert bladescan("export", detector, "--to", "onnx", "-o", exported).returncode == 0
    rows, some = [], sorted((pictures / "generated").glob("1*.jpg"))
    for model, backend in ((detector, "pytorch"), (exported, "onnx")):
        done = bladescan("scan", "--model", model, "--backend", backend, "--format", "csv", *some)
        assert done.returncode in (0, 1), done.stderr.decode()
        rows.append(list(csv.DictReader(io.StringIO(done.stdout.decode()))))
    assert [row["head"] for row in rows[0]] == ["binary"] * 11
    for one, two in zip(*rows, strict=True):
        assert one["path"] == two["path"]
        assert float(one["p_ai_generated"]) == pytest.approx(float(two["p_ai_generated"]), abs=1e-3)


def test_what_was_given_to_the_wrong_recipe_is_said(in_process, pictures, tmp_path):
    photos = ["--photos", pictures / "photographs"]
    for recipe, more, message in (
        ("cnnd", [], "recipe cnnd learns what is AI-generated: give --ai-generated DIR as well"),
        ("small", ["--ai-generated", pictures / "generated"], "learns from photographs alone"),
        ("cnnd", ["--ai-generated", pictures / "photographs"], "the same file cannot be a photograph and"),
        ("cnnd", ["--ai-generated", pictures / "generated", "--set", "data.held_out=0.1"], "held out, and"),
    ):
        index = ["--index", tmp_path / "i.sqlite"]
        done = in_process("train", "--recipe", recipe, *photos, *more, *index, "-o", tmp_path / "run")
        assert done.exit_code == 2 and message in done.stderr, done.stderr
        assert not (tmp_path / "run" / "encoder.safetensors").exists()


def test_a_run_that_learned_from_photographs_alone_is_no_detector(tmp_path):
    from bladescan.base.errors import DetectorError
    from bladescan.fitting.train_job import trained_detector

    with pytest.raises(DetectorError, match="not a run"):
        trained_detector(tmp_path)
