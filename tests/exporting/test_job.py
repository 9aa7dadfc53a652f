"""One export, asked for in Python and by the command."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import DetectorError, UnknownNameError, UsageError
from bladescan.detectors.shipped import ONNX
from bladescan.exporting.exporter import write_export
from bladescan.exporting.job import ExportOptions, export
from bladescan.exporting.onnx import export_onnx
from bladescan.exporting.reports import ParityReport, QuantisationReport
from bladescan.heads.detector import save_detector
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
from bladescan.scanning.decoder_process import DecoderSettings
from tests.exporting.test_quantisation import faces_like
from tests.tiny import tiny_detector


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A tiny detector, and its own export."""
    folder = tmp_path_factory.mktemp("detectors")
    save_detector(tiny_detector(), folder / "d.safetensors")
    export_onnx(tiny_detector(), folder / "d.onnx")
    return folder


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """A folder of face crops."""
    folder = tmp_path_factory.mktemp("crops")
    for i, crop in enumerate(faces_like(32)):
        Image.fromarray(crop).save(folder / f"{i:02}.png")
    return folder


def in_integers(crops):
    return ExportOptions(precision="int8", photographs=(str(crops),), decoder=DecoderSettings(faces="none"))


def test_a_detector_is_exported_to_the_same_bytes_whoever_asks(files, tmp_path):
    report = export(files / "d.safetensors", tmp_path / "d.onnx")
    assert isinstance(report, ParityReport) and report.same_for_every_batch_size
    assert (tmp_path / "d.onnx").read_bytes() == (files / "d.onnx").read_bytes()


@pytest.mark.parametrize("form", ["d.safetensors", "d.onnx"])
def test_either_form_of_a_detector_is_put_into_integers(files, crops, tmp_path, form):
    seen = []
    report = export(files / form, tmp_path / "8.onnx", in_integers(crops), seen=seen.append)
    assert isinstance(report, QuantisationReport)
    assert (report.n_calibrating, report.n_compared, sum(seen)) == (16, 16, 32)
    opened = get_plugin("onnx").open(tmp_path / "8.onnx", BackendSettings("cpu"))
    assert opened.manifest.provenance["int8"]["n_compared"] == 16
    assert np.isfinite(opened.score(faces_like(2)).log_likelihood).all()
    opened.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "onxn"}, "unknown export 'onxn'. Did you mean 'onnx'"),
        ({"precision": "int4"}, "unknown precision 'int4'"),
        ({"precision": "fp16"}, "fp16 is for --to tensorrt"),
        ({"precision": "int8"}, "go together"),
        ({"photographs": ("x",)}, "go together"),
        ({"to": "tensorrt"}, "expected a name that ends in .engine"),
    ],
)
def test_what_does_not_go_together_is_said_to_python_programs_too(files, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        export(files / "d.safetensors", tmp_path / "x.onnx", ExportOptions(**options))
    assert not (tmp_path / "x.onnx").exists()


def test_an_engine_needs_room_for_a_face(files, tmp_path):
    for most in (0, 4097):
        with pytest.raises(UsageError, match="expected 1 to 4096"):
            export(files / "d.safetensors", tmp_path / "x.engine", ExportOptions("tensorrt", max_batch=most))


def test_an_unknown_export_is_an_unknown_name(files, tmp_path):
    with pytest.raises(UnknownNameError):
        export(files / "d.safetensors", tmp_path / "x.onnx", ExportOptions("coreml"))


class Broken:
    """An exporter whose product is not what it should be."""

    def build(self):
        return b"new"

    def check(self, built):
        raise DetectorError("differs")

    def encode(self, built, report):
        raise AssertionError("what failed the check was encoded")


def test_what_fails_its_check_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(b"old")
    with pytest.raises(DetectorError, match="^differs$"):
        write_export(Broken(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


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
def test_what_does_not_go_together_is_said(tmp_path, arguments, message):
    done = run(ONNX, *arguments, "-o", tmp_path / "x.onnx")
    assert done.returncode == 2
    assert message in done.stderr


def test_the_detector_itself_is_never_replaced(files, tmp_path):
    path, exported = tmp_path / "d.onnx", (files / "d.onnx").read_bytes()
    path.write_bytes(exported)
    done = run(path, "--precision", "int8", "--photos", tmp_path, "-o", tmp_path / "." / "d.onnx")
    assert (done.returncode, path.read_bytes()) == (2, exported)
    assert "is the detector that is exported; give it another name" in done.stderr


def test_an_output_that_is_a_folder_is_said_before_any_work(tmp_path):
    (tmp_path / "8.onnx").mkdir()
    done = run("--precision", "int8", "--photos", tmp_path, "-o", tmp_path / "8.onnx")
    assert (done.returncode, "8.onnx: is a folder; give the name of a file" in done.stderr) == (2, True)


def test_too_few_faces_are_said_with_what_was_found(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    done = run(ONNX, "--precision", "int8", "--photos", tmp_path, "-o", tmp_path / "x.onnx")
    assert "0 faces found (1 truncated): int8 needs at least 32" in done.stderr
    assert not (tmp_path / "x.onnx").exists()
