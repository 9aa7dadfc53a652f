"""A manifest in an ONNX model."""

import pytest

from bladescan.base.errors import DetectorError
from bladescan.detectors.onnx_metadata import manifest_of, with_manifest
from tests.tiny import tiny_detector

onnx = pytest.importorskip("onnx")


def test_a_manifest_comes_back_and_is_the_only_metadata():
    manifest = tiny_detector().manifest
    model = onnx.ModelProto()
    model.metadata_props.add(key="pytorch", value="/home/someone/file.py")
    data = with_manifest(model, manifest)
    again = onnx.load_from_string(data)
    assert manifest_of(again, where="x.onnx") == manifest
    assert [entry.key for entry in again.metadata_props] == ["bladescan"]
    assert with_manifest(again, manifest) == data


def test_a_model_without_a_manifest_is_no_detector():
    with pytest.raises(DetectorError, match="^x.onnx: not a bladescan detector"):
        manifest_of(onnx.ModelProto(), where="x.onnx")
