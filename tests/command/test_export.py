"""`bladescan export` by the real command: what goes together, and what is refused before any work."""

import subprocess
import sys

import pytest
from PIL import Image

from bladescan.detectors.shipped import ONNX
from bladescan.heads.detector import save_detector
from tests.once import exported
from tests.tiny import faces_like, tiny_detector


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A tiny detector, and its own export."""
    folder = tmp_path_factory.mktemp("detectors")
    save_detector(tiny_detector(), folder / "d.safetensors")
    (folder / "d.onnx").write_bytes(exported("tiny"))
    return folder


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """A folder of face crops."""
    folder = tmp_path_factory.mktemp("crops")
    for i, crop in enumerate(faces_like(32)):
        Image.fromarray(crop).save(folder / f"{i:02}.png")
    return folder


def run(*arguments):
    command = [sys.executable, "-m", "bladescan", "export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.integration
def test_the_command_makes_one_of_a_folder_of_crops(crops, tmp_path):
    asked = ("--precision", "int8", "--photos", crops, "--faces", "none")
    done = run(*asked, "-o", tmp_path / "8.onnx")  # the one that ships
    assert (done.returncode, done.stderr) == (0, "")
    assert "same_verdict" in done.stdout
    assert (tmp_path / "8.onnx").stat().st_size < 0.9 * ONNX.stat().st_size


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--precision", "int8"], "--precision int8 and --photos go together"),
        (["--photos", "x"], "--precision int8 and --photos go together"),
        (["--precision", "int4"], "unknown precision 'int4'"),
        (["--precision", "fp16"], "fp16 is for --to tensorrt"),
    ],
)
def test_what_does_not_go_together_is_said(in_process, tmp_path, arguments, message):
    done = in_process("export", ONNX, *arguments, "-o", tmp_path / "x.onnx")
    assert done.exit_code == 2
    assert message in done.stderr


def test_the_detector_itself_is_never_replaced(in_process, files, tmp_path):
    path, exported = tmp_path / "d.onnx", (files / "d.onnx").read_bytes()
    path.write_bytes(exported)
    done = in_process(
        "export", path, "--precision", "int8", "--photos", tmp_path, "-o", tmp_path / "." / "d.onnx"
    )
    assert (done.exit_code, path.read_bytes()) == (2, exported)
    assert "is the detector that is exported; give it another name" in done.stderr


def test_an_output_that_is_a_folder_is_said_before_any_work(in_process, tmp_path):
    (tmp_path / "8.onnx").mkdir()
    done = in_process("export", "--precision", "int8", "--photos", tmp_path, "-o", tmp_path / "8.onnx")
    assert (done.exit_code, "8.onnx: is a folder; give the name of a file" in done.stderr) == (2, True)


def test_too_few_faces_are_said_with_what_was_found(in_process, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    done = in_process("export", ONNX, "--precision", "int8", "--photos", tmp_path, "-o", tmp_path / "x.onnx")
    assert "0 faces found (1 truncated): int8 needs at least 32" in done.stderr
    assert not (tmp_path / "x.onnx").exists()
