"""One export, asked for in Python."""

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import DetectorError, UnknownNameError, UsageError
from bladescan.exporting.exporter import write_export
from bladescan.exporting.job import export
from bladescan.exporting.kinds import ExportOptions
from bladescan.exporting.reports import ParityReport, QuantisationReport
from bladescan.heads.detector import save_detector
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
from bladescan.scanning.decoder_process import DecoderSettings
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
