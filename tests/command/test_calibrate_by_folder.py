"""Thresholds that hold for folders that are not there, by the real command and in all that reads them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from bladescan.base.exit_codes import ExitCode
from bladescan.command.describe import read_manifest
from bladescan.detectors.calibration import p_values

N_FOLDERS = 19


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    """Nineteen folders of one to three pictures, which are face crops by decree; one is in two parts."""
    root = tmp_path_factory.mktemp("by-folder") / "photographs"
    rng = np.random.default_rng(8)
    for k in range(N_FOLDERS):
        folder = root / f"conference-{k:02}"
        (folder / "2020").mkdir(parents=True)
        for i in range(1 + k % 3):
            small = rng.integers(0, 256, (9 + i, 9, 3), dtype=np.uint8)
            to = folder / "2020" if k == 1 and i else folder
            Image.fromarray(small).resize((224, 224), Image.Resampling.BICUBIC).save(to / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def mine(bladescan, collections, tmp_path_factory):
    path = tmp_path_factory.mktemp("calibrated") / "mine.onnx"
    options = ("--photos", collections, "--faces", "none", "--by", "folder", "-o", path)
    done = bladescan("calibrate", "blades", *options)
    assert done.returncode == 0, done.stderr.decode()
    return path, done.stdout.decode()


def test_each_folder_weighs_the_same_and_no_interval_is_promised(mine):
    head = read_manifest(mine[0]).heads["binary"]
    assert (head.by, head.n_folders, head.n_held_out) == ("folder", N_FOLDERS, 37)
    assert p_values(head, -2.0) == 1 / 20 and p_values(head, 1.0) == 1.0
    shares = np.unique(np.round(np.diff(head.steps) * 20, 9))
    np.testing.assert_allclose(shares, [1 / 3, 1 / 2, 1])
    assert "n_folders: 19" in mine[1] and "smallest_folder: conference-00 (1 face)" in mine[1]
    assert "interval_95" not in mine[1].partition("heads")[0]


def test_what_reads_a_calibration_reads_it(bladescan, collections, mine, tmp_path):
    told = bladescan("info", mine[0]).stdout.decode()
    assert "by: folder" in told and "n_folders: 19" in told and "lowest_false_alarm: 0.05" in told
    options = ("--faces", "none", "--model", mine[0], "--explain", "--fail-on", "none")
    verdicts = tmp_path / "v.jsonl"
    done = bladescan("scan", collections, *options, "-o", verdicts, "--false-alarm", "0.1")
    assert done.returncode == 0, done.stderr.decode()
    faces = [
        face
        for line in map(json.loads, verdicts.read_text().splitlines())
        if line["type"] == "image"
        for face in line["faces"]
    ]
    flagged = [face for face in faces if face["verdict"] == "ai-generated"]
    assert flagged and len(faces) == 37
    for face in faces:
        assert (face["verdict"] == "ai-generated") == (face["p_value"] <= 0.1)
        assert (face["p_value"] <= 0.1) == (face["score"] > face["threshold"])
        assert face["p_smooth"] + 1e-6 >= face["p_value"] > 0.05  # six digits; each counts itself
    order = sorted(face["score"] for face in faces)[::-1]
    for face in flagged:
        told = face["explanation"]
        assert told["n_as_suspicious"] == order.index(face["score"]) + 1 and told["n_photographs"] == 37
    page = tmp_path / "review.html"
    assert bladescan("report", verdicts, "-o", page).returncode == 0 and page.stat().st_size


def test_what_it_cannot_promise_is_refused_with_the_number(in_process, collections, mine, tmp_path):
    few = [argument for k in range(5) for argument in ("--photos", collections / f"conference-{k:02}")]
    given = ("--faces", "none", "-o", tmp_path / "x.onnx")
    done = in_process("calibrate", "blades", *few, *given, "--by", "folder", "--false-alarm", "0.1")
    assert done.exit_code == ExitCode.FAILED and done.stderr.count("\n") == 1
    assert "5 folders: a false-alarm rate of 0.1" in done.stderr and "at least 9" in done.stderr
    given = ("--photos", collections, *given)
    done = in_process("calibrate", "blades", *given, "--by", "strictest-folder")
    assert "0 of 19 folders with 19 faces or more" in done.stderr
    done = in_process("calibrate", "blades", *given, "--by", "camera")
    assert "unknown unit of calibration 'camera'" in done.stderr
    assert not list(tmp_path.iterdir())
    scan = ("scan", collections, "--faces", "none", "--model", mine[0])
    done = in_process(*scan, "--false-alarm", "0.01")
    assert done.exit_code == ExitCode.FAILED and "needs at least 99 folders" in done.stderr
    done = in_process(*scan, "--fdr", "0.04")
    assert "37 held-out photographs of 19 folders" in done.stderr
