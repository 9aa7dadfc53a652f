"""A detector of how far an embedding moves, from the encoder's file to verdicts, with the real commands."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.command.test_foreign_encoder import pictures
from tests.foreign.networks import CHANGES


def told(done, *codes):
    assert done.returncode in codes, done.stderr.decode()
    return done.stdout.decode()


@pytest.fixture(scope="module")
def fitted(bladescan, in_process, vit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("movement")
    photographs = pictures(folder / "photographs", 70, 1)
    said = (*CHANGES, "encoder.movement=minder", "encoder.noise_sigma=0.1")
    changes = [part for change in said for part in ("--set", change)]
    command = ["fit", "--encoder", f"onnx:{vit[1]}", *changes, "--photos", photographs, "--faces", "none"]
    told(bladescan(*command, "--copies", "0", "-o", folder / "d.onnx"), 0)
    wrong = in_process(*command, "--set", "encoder.movement=rigit", "-o", folder / "w.onnx")
    assert wrong.exit_code == 2 and "encoder.movement" in wrong.stderr
    assert not (folder / "w.onnx").exists()
    return folder


def test_photographs_alone_make_a_detector_that_scans_and_explains(bladescan, fitted):
    other = pictures(fitted / "other", 20, 12)
    command = ["scan", "--model", fitted / "d.onnx", "--faces", "none", "--format"]
    by_onnx, by_openvino = (
        list(csv.DictReader(io.StringIO(told(done, 1))))
        for done in (
            bladescan(*command, "csv", "--backend", backend, other, fitted / "photographs")
            for backend in ("onnx", "openvino")
        )
    )
    assert len(by_onnx) == 90 and {row["head"] for row in by_onnx} == {"one-class"}
    for one, two in zip(by_onnx, by_openvino, strict=True):
        assert float(one["log_likelihood"]) == pytest.approx(float(two["log_likelihood"]), abs=0.05)
    flagged = [row["path"] for row in by_onnx if row["verdict"] == "ai-generated"]
    assert sum("photographs/" in path for path in flagged) <= 8
    # The texture is another: it moves otherwise, in a direction that no photograph has shown.
    theirs = [path for path in flagged if "other/" in path]
    assert len(theirs) >= 6
    assert "explanation" in told(bladescan(*command, "jsonl", "--explain", theirs[0]), 1)


def test_it_says_its_sigma_and_is_calibrated_anew(bladescan, in_process, fitted, tmp_path):
    shown = in_process("info", fitted / "d.onnx").stdout
    assert "noise_sigma" in shown and "minder" in shown
    anew = ["--photos", fitted / "photographs", "--faces", "none", "-o", tmp_path / "c.onnx"]
    told(bladescan("calibrate", fitted / "d.onnx", *anew), 0)
    manifest = json.loads(in_process("info", tmp_path / "c.onnx", "--json").stdout)
    assert manifest["heads"]["one-class"]["n_held_out"] == 70 and manifest["neighbours"] is None
    assert manifest["provenance"]["encoder"]["blur_sigma"] == 0.55
