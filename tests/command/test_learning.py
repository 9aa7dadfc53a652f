"""From photographs to verdicts with the real commands: train, fit, export, scan, on very little data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from bladescan.base.exit_codes import ExitCode

TINY = ["encoder.width=8", "inner.epochs=1", "inner.batch_size=4", "data.held_out=0.2", "workers=0"]
CHEAP = ["--faces", "none", "--covariance", "diag", "--copies", "1"]


@pytest.fixture(scope="module")
def portraits(samples, tmp_path_factory) -> Path:
    """Ten portraits that differ in brightness and size."""
    folder = tmp_path_factory.mktemp("portraits")
    portrait = Image.open(samples / "portrait.jpg")
    for i in range(10):
        brighter = ImageEnhance.Brightness(portrait).enhance(0.8 + 0.04 * i)
        brighter.resize((400 + 10 * i, 470 + 10 * i)).save(folder / f"{i}.png")
    return folder


def crops(folder: Path, n: int, seed: int) -> Path:
    """``n`` pictures that are face crops by decree."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(n):
        small = rng.integers(0, 256, (6 + 3 * seed, 6 + 3 * seed, 3), dtype=np.uint8)
        Image.fromarray(small).resize((224, 224), Image.Resampling.BICUBIC).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def run(bladescan, portraits, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    changes = [part for change in TINY for part in ("--set", change)]
    done = bladescan("train", "--recipe", "small", "--photos", portraits, "-o", out, *changes)
    assert done.returncode == 0, done.stderr.decode()
    return out


@pytest.fixture(scope="module")
def fitted(bladescan, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    photographs, generated = crops(folder / "photographs", 90, 1), crops(folder / "generated", 12, 4)
    options = ["--photos", photographs, "--ai-generated", generated, *CHEAP]
    done = bladescan("fit", "--encoder", run, *options, "-o", folder / "d.safetensors")
    assert done.returncode == 0, done.stderr.decode()
    return folder, done.stdout.decode(), options


def test_a_run_says_what_it_is(in_process, run):
    manifest = json.loads(in_process("info", run, "--json").stdout)
    assert manifest["encoder"] == {
        "name": "resnet10",
        "width": 8,
        "embedding_dim": 768,
        "normalise": True,
        "batch": 0,
    }
    assert manifest["heads"] == {}
    assert (run / "recipe.yaml").is_file() and (run / "history.jsonl").is_file()


def test_a_run_is_not_overwritten(bladescan, run, portraits):
    done = bladescan("train", "--photos", portraits, "-o", run)
    assert done.returncode == ExitCode.FAILED
    assert b"is not empty" in done.stderr


def test_fit_prints_the_rate_and_its_interval(fitted):
    _, printed, _ = fitted
    assert "false_alarm: 0.05" in printed
    assert "false_alarm_interval_95" in printed and "paper_false_alarm" in printed
    assert "faces: 90" in printed and "faces: 12" in printed


def test_fit_gives_the_same_bytes_again(bladescan, run, fitted):
    folder, _, options = fitted
    again = folder / "again.safetensors"
    name = ["--name", "d"]
    bladescan("fit", "--encoder", run, *options, *name, "-o", again)
    assert again.read_bytes() == (folder / "d.safetensors").read_bytes()


def test_features_by_another_backend_give_the_same_detector(bladescan, in_process, run, fitted):
    folder, _, _ = fitted
    path = folder / "onnx.safetensors"
    options = ["--photos", folder / "photographs", *CHEAP, "-o", path]
    assert bladescan("fit", "--encoder", run, *options, "--backend", "onnx").returncode == 0
    ours, theirs = (
        json.loads(in_process("info", p, "--json").stdout) for p in (folder / "d.safetensors", path)
    )
    curves = [np.asarray(m["heads"]["one-class"]["calibration"]) for m in (ours, theirs)]
    np.testing.assert_allclose(*curves, rtol=1e-3)


def test_photographs_of_ones_own_choice_calibrate(in_process, run, fitted):
    folder, _, _ = fitted
    path, chosen = folder / "calibrated.safetensors", crops(folder / "calibration", 25, 2)
    options = ["--photos", folder / "photographs", *CHEAP, "-o", path]
    assert in_process("fit", "--encoder", run, *options, "--calibrate", chosen).exit_code == 0
    manifest = json.loads(in_process("info", path, "--json").stdout)
    assert manifest["heads"]["one-class"]["n_held_out"] == 25
    assert manifest["provenance"]["fit"]["n_fit"] == 90


def test_an_export_scans_as_its_detector_does(bladescan, fitted):
    folder, _, _ = fitted
    onnx = folder / "d.onnx"
    done = bladescan("export", folder / "d.safetensors", "-o", onnx)
    assert done.returncode == 0, done.stderr.decode()
    assert b"scikit_learn" in done.stdout and b"same_for_every_batch_size: true" in done.stdout
    found = []
    for model in (onnx, folder / "d.safetensors"):
        out = bladescan(
            "scan", folder / "generated", "--model", model, "--faces", "none", "--format", "jsonl"
        )
        lines = [json.loads(line) for line in out.stdout.splitlines()]
        found.append([face for line in lines[1:-1] for face in line["faces"]])
    assert len(found[0]) == 12
    for ours, theirs in zip(*found, strict=True):
        assert ours["verdict"] == theirs["verdict"]
        assert ours["log_likelihood"] == pytest.approx(theirs["log_likelihood"], rel=1e-3)


def test_too_few_photographs_are_an_error(in_process, run, tmp_path):
    few = crops(tmp_path / "few", 5, 1)
    done = in_process(
        "fit", "--encoder", run, "--photos", few, "--faces", "none", "-o", tmp_path / "d.safetensors"
    )
    assert done.exit_code == ExitCode.FAILED
    assert done.stderr.startswith("bladescan: ") and not (tmp_path / "d.safetensors").exists()


def test_a_folder_without_faces_is_an_error(in_process, run, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    Image.new("RGB", (300, 300)).save(plain / "x.png")
    done = in_process("fit", "--encoder", run, "--photos", plain, "-o", tmp_path / "d.safetensors")
    assert done.exit_code == ExitCode.FAILED
    assert "no face in any image (1 no-face)" in done.stderr


def test_an_export_is_no_encoder(in_process, tmp_path):
    (photo := tmp_path / "photo.jpg").touch()
    done = in_process("fit", "--encoder", "x.onnx", "--photos", photo, "-o", tmp_path / "d.safetensors")
    assert done.exit_code == ExitCode.FAILED
    assert "give the .safetensors detector or the encoder run" in done.stderr
