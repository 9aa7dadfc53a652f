"""The command over real and hostile images: nothing lost, nothing different, whatever the setting."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from bladescan.base.exit_codes import ExitCode
from bladescan.command.describe import read_manifest
from bladescan.detectors.shipped import shipped_detector

pytestmark = pytest.mark.integration


def rows(text: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.decode(), newline="")))


def names(paths: list[Path]) -> bytes:
    return b"\0".join(str(path).encode() for path in paths)


@pytest.fixture(scope="module")
def mixed(data_dir) -> bytes:
    """Every twelfth hostile file and evaluation image, as a list of names."""
    files = [p for folder in ("hostile", "evaluation") for p in sorted((data_dir / folder).rglob("*"))]
    return names([path for path in files if path.is_file()][::12])


@pytest.fixture(scope="module")
def mixed_rows(bladescan, mixed) -> bytes:
    done = bladescan("scan", "-", "-0", "--format", "csv", stdin=mixed)
    assert done.returncode == ExitCode.FLAGGED_AND_INCOMPLETE
    return done.stdout


def test_hostile_and_evaluation_folders_give_a_row_for_every_file(bladescan, data_dir, tmp_path):
    folders = [data_dir / "hostile", data_dir / "evaluation"]
    done = bladescan("scan", *folders, "--all-files", "-o", tmp_path / "v.csv", "--workers", "2")
    assert done.returncode == ExitCode.FLAGGED_AND_INCOMPLETE
    assert b"Traceback" not in done.stderr
    found = rows((tmp_path / "v.csv").read_bytes())
    listed = {str(path) for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert {row["path"] for row in found} == listed
    assert all(row["reason"] for row in found if row["verdict"] == "unreadable")
    assert not [row for row in found if row["reason"] in ("decoder-crashed", "timeout")]


@pytest.mark.parametrize("setting", [("--workers", "2"), ("--batch-size", "1"), ("--batch-size", "32")])
def test_rows_are_the_same_bytes_whatever_the_setting(bladescan, mixed, mixed_rows, setting):
    assert bladescan("scan", "-", "-0", "--format", "csv", *setting, stdin=mixed).stdout == mixed_rows


def test_every_backend_gives_the_same_verdicts_on_faces(bladescan, data_dir):
    faces = names(sorted((data_dir / "faces").iterdir())[::48])
    asked = ("scan", "-", "-0", "--model", "blades", "--head", "one-class")
    onnx, pytorch = (
        rows(bladescan(*asked, "--backend", name, stdin=faces).stdout) for name in ("onnx", "pytorch")
    )
    head = read_manifest(shipped_detector("blades")).heads["one-class"]
    threshold = sorted(head.calibration)[int(0.05 * (len(head.calibration) + 1)) - 1]
    assert len([row for row in onnx if row["face_verdict"]]) > 25
    for ours, theirs in zip(onnx, pytorch, strict=True):
        assert ours["path"] == theirs["path"]
        if ours["log_likelihood"]:
            score = float(ours["log_likelihood"])
            assert float(theirs["log_likelihood"]) == pytest.approx(score, rel=1e-3)
            close = abs(score - threshold) <= 1e-3 * abs(threshold)
            assert close or ours["face_verdict"] == theirs["face_verdict"]


def test_photographs_of_unseen_collections_are_flagged_about_as_asked(bladescan, data_dir):
    # Not a claim of 5%: the figure and its interval stand in the model card. A broken calibration fails here.
    folder = data_dir / "evaluation" / "photographic"
    for name, head in (("blades", "one-class"), ("blades", "binary"), ("fast", "binary")):
        found = rows(bladescan("scan", folder, "--model", name, "--head", head).stdout)
        faces = [row for row in found if row["face_verdict"]]
        flagged = sum(row["face_verdict"] == "ai-generated" for row in faces)
        assert 0 < flagged < 0.15 * len(faces)
