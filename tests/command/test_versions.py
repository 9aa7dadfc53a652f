"""What ``--version`` says is what a scan says it used."""

import hashlib
import json
import subprocess
import sys
from importlib.metadata import version

from bladescan import __version__
from bladescan.command import versions
from bladescan.faces.yunet import YUNET


def test_the_version_names_what_decides(bladescan, samples):
    said = bladescan("--version").stdout.decode().splitlines()
    out = bladescan("scan", samples / "no-face.webp", "--format", "jsonl").stdout
    run = json.loads(out.splitlines()[0])
    assert said[0] == f"bladescan {__version__}" == f"bladescan {run['version']}"
    assert said[1] == f"detector {run['detector']}, SHA-256 {run['detector_sha256']}"
    assert said[2] == f"face finder yunet, SHA-256 {hashlib.sha256(YUNET.read_bytes()).hexdigest()}"
    assert f"onnxruntime {version('onnxruntime')}" in said and f"pillow {version('pillow')}" in said


def test_a_damaged_installation_still_says_its_version(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "default_file", lambda: tmp_path / "gone.onnx")
    assert "detector unknown, SHA-256 unknown: No such file" in versions.versions()


def test_packages_of_extras_that_are_missing_are_left_out():
    code = (
        "from bladescan.command import versions\n"
        "versions._MAY_DECIDE = ('no-such-package',)\n"
        "print(versions.versions())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert "no-such-package" not in out and "None" not in out
