"""The data package with the accurate detector, and how a package like it is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from bladescan.detectors.cascade import part_files, read_cascade
from bladescan.detectors.neighbours import Neighbourhood
from bladescan.detectors.shipped import FOLDER

PACKAGE = Path(__file__).parents[2] / "accurate" / "bladescan_accurate"


def test_the_cascade_fits_the_files_beside_it():
    path = PACKAGE / "cascade.cascade"
    first, second = part_files(path, read_cascade(path))  # checks their digests
    assert first.read_bytes() == (FOLDER / "fast.onnx").read_bytes()
    assert second.name == "accurate.onnx"


def test_the_cascade_keeps_sketches_of_the_faces_that_set_its_thresholds():
    kept = read_cascade(PACKAGE / "cascade.cascade").manifest.neighbours
    around = Neighbourhood(kept, where="cascade")
    assert kept.n == len(around.own) == 712
    assert 20 < float(np.median(around.own)) < 40  # degrees: faces of one pool, no copies
    assert around.own[0] > 0


def test_a_data_package_is_found_and_its_code_is_not_run(tmp_path):
    data, info = tmp_path / "some_data", tmp_path / "some_data-1.0.dist-info"
    data.mkdir()
    info.mkdir()
    (data / "__init__.py").write_text("raise SystemExit('run')")
    (data / "accurate.onnx").write_bytes(b"")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-data\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bladescan.detectors]\naccurate = some_data\n")
    code = "from bladescan.detectors.shipped import shipped_detector as find; print(find('accurate'))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(data / "accurate.onnx"), done.stderr
