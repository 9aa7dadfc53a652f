"""New thresholds for a detector that exists, by the real command; photographs are stand-ins made here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import MissingDependencyError
from bladescan.base.exit_codes import ExitCode
from bladescan.command.describe import read_manifest
from bladescan.detectors.shipped import shipped_detector
from bladescan.detectors.suspicion import suspicion_threshold
from bladescan.fitting import calibrate_job
from bladescan.fitting.calibrate_job import CalibrateOptions, calibrate

# It has both heads.
ONNX, SAFETENSORS = (shipped_detector("blades", (form,)) for form in (".onnx", ".safetensors"))


def pictures(folder: Path, n: int, seed: int) -> Path:
    """``n`` pictures that are face crops by decree."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(n):
        small = rng.integers(0, 256, (9 + i % 7, 9, 3), dtype=np.uint8)
        Image.fromarray(small).resize((224, 224), Image.Resampling.BICUBIC).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return pictures(tmp_path_factory.mktemp("own") / "photographs", 60, 5)


@pytest.fixture(scope="module")
def mine(bladescan, own, tmp_path_factory):
    path = tmp_path_factory.mktemp("calibrated") / "mine.onnx"
    done = bladescan("calibrate", "blades", "--photos", own, "--faces", "none", "-o", path)
    assert done.returncode == 0, done.stderr.decode()
    return path, done.stdout.decode()


def faces(bladescan, folder: Path, *options: object) -> list[dict[str, object]]:
    done = bladescan("scan", folder, "--faces", "none", "--format", "jsonl", *options)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [face for line in lines if line["type"] == "image" for face in line["faces"]]


@pytest.mark.parametrize("head", ["one-class", "binary"])
def test_the_asked_share_of_the_photographs_that_calibrated_is_flagged(bladescan, own, mine, head):
    found = faces(bladescan, own, "--model", mine[0], "--head", head, "--explain")
    flagged = [face["explanation"] for face in found if face["verdict"] == "ai-generated"]
    assert len(flagged) == 2  # p = (1 + rank) / 61 of each: 2 / 61 and 3 / 61
    assert len(found) == 60
    for told in flagged:  # each is a photograph of the calibration, and so its own nearest
        assert told["nearest_degrees"][0] == 0 < told["nearest_degrees"][1]
        assert told["n_as_far"] == told["n_photographs"] == 60


def test_what_was_learned_stays_and_only_the_calibration_is_new(bladescan, own, mine):
    old, new = read_manifest(ONNX), read_manifest(mine[0])
    assert new.encoder == old.encoder and new.provenance["fit"] == old.provenance["fit"]
    assert set(new.heads) == set(old.heads) and new.default_head == old.default_head
    for name, head in new.heads.items():
        assert head.n_held_out == len(head.calibration) == 60 != old.heads[name].n_held_out
        assert new.provenance["calibrated"]["heads"][name]["threshold"] == suspicion_threshold(
            head, name, 0.05
        )
    before, after = (faces(bladescan, own, "--model", path) for path in (ONNX, mine[0]))
    for key in ("log_likelihood", "p_ai_generated"):
        assert [face[key] for face in before] == [face[key] for face in after]


def test_it_says_what_the_old_threshold_flagged(bladescan, own, mine):
    before = [face["verdict"] for face in faces(bladescan, own, "--model", ONNX)]
    said = read_manifest(mine[0]).provenance["calibrated"]["heads"]["binary"]
    assert said["flagged_before"] == before.count("ai-generated") / 60
    low, high = said["flagged_before_interval_95"]
    assert low <= said["flagged_before"] <= high
    assert "false_alarm_interval_95" in mine[1] and "n_faces: 60" in mine[1]


def test_rates_on_other_photographs_are_measured_and_said_wherever_the_detector_decides(
    bladescan, own, tmp_path
):
    for name, pick in (("first", slice(0, 36)), ("second", slice(36, 60))):
        (tmp_path / name).mkdir()
        for path in sorted(own.iterdir())[pick]:
            shutil.copy(path, tmp_path / name)
    shutil.copy(own / "000.png", tmp_path / "first" / "copy.png")
    done = bladescan(
        *("calibrate", "blades", "--photos", tmp_path / "first", "--photos", tmp_path / "second"),
        *("--faces", "none", "--false-alarm", "0.05", "-o", tmp_path / "two.onnx"),
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"copies are left out: 1 equal file" in done.stderr and b"copy: 1" in done.stdout.replace(
        b'"', b""
    )
    measured = read_manifest(tmp_path / "two.onnx").measured
    assert {(rate.head, rate.photographs, rate.n_faces) for rate in measured} == {
        (head, *of) for head in ("binary", "one-class") for of in (("first", 36), ("second", 24))
    }
    told = "asked for 5%, "
    assert told in bladescan("info", tmp_path / "two.onnx").stdout.decode()
    scan = bladescan("scan", own, "--faces", "none", "--model", tmp_path / "two.onnx", "--format", "jsonl")
    assert f"false alarms: {told}" in scan.stderr.decode()
    assert told in json.loads(scan.stdout.splitlines()[0])["measured"]


def test_both_forms_of_a_detector_are_calibrated_alike(bladescan, own, mine, tmp_path):
    path = tmp_path / "mine.safetensors"
    done = bladescan("calibrate", SAFETENSORS, "--photos", own, "--faces", "none", "-o", path)
    assert done.returncode == 0, done.stderr.decode()
    curves = [read_manifest(p).heads["one-class"].calibration for p in (path, mine[0])]
    np.testing.assert_allclose(*curves, rtol=1e-3)


@pytest.mark.parametrize(
    "arguments,said",
    [
        (
            ["-o", "{tmp}/x.txt"],
            "expected a name that ends in .cascade or .onnx or .safetensors or .combined",
        ),
        ([str(SAFETENSORS), "-o", "{tmp}/x.onnx"], "expected a name that ends in .safetensors"),
        (["-o", "{tmp}/none/x.onnx"], "no folder"),
        (["-o", "{tmp}/x.onnx", "--false-alarm", "0.01"], "needs at least 99"),
        (["-o", "{tmp}/x.onnx", "--false-alarm", "2"], "between 0 and 1"),
        (["{tmp}/absent.onnx", "-o", "{tmp}/x.onnx"], "absent.onnx"),
    ],
)
def test_what_cannot_be_calibrated_is_one_line_and_no_file(in_process, own, tmp_path, arguments, said):
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    done = in_process("calibrate", "--photos", own, "--faces", "none", *arguments)
    assert done.exit_code == ExitCode.FAILED
    assert said in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_too_few_photographs_are_told_with_what_became_of_the_others(in_process, tmp_path):
    listed = tmp_path / "listed.txt"
    listed.write_text(f"{tmp_path}/moved.jpg\n{tmp_path}/gone.jpg\n")
    done = in_process("calibrate", "--photos", f"@{listed}", "--faces", "none", "-o", tmp_path / "x.onnx")
    assert done.exit_code == ExitCode.FAILED and "0 photographs (2 not-found), but" in done.stderr


def test_a_missing_package_is_named_before_a_photograph_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(calibrate_job, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"needs torch, .*bladescan\[train\]"):
        calibrate(iter(["never read"]), CalibrateOptions(tmp_path / "x.safetensors"))


def test_an_exported_detector_needs_no_package_that_a_scan_does_not_need(own, tmp_path):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('onnx', 'scipy', 'torch', 'sklearn', 'matplotlib')))\n"
        "from bladescan.__main__ import main; main()"
    )
    command = [sys.executable, "-c", code, "calibrate", "--photos", own, "--faces", "none"]
    done = subprocess.run([*command, "-o", tmp_path / "mine.onnx"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert read_manifest(tmp_path / "mine.onnx").name == "mine"
