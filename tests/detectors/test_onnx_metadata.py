"""A manifest in an ONNX model."""

import pytest

from bladescan.base.errors import DetectorError
from bladescan.detectors.onnx_metadata import manifest_of, replace_manifest, with_manifest
from bladescan.detectors.shipped import ONNX
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


def test_a_manifest_is_replaced_without_the_package_and_all_else_stays():
    data, manifest = ONNX.read_bytes(), tiny_detector().manifest
    found = replace_manifest(data, manifest, where="x.onnx")
    before, after = onnx.load_from_string(data), onnx.load_from_string(found)
    assert manifest_of(after, where="x.onnx") == manifest
    for model in (before, after):
        del model.metadata_props[:]
    assert before == after
    assert replace_manifest(found, manifest, where="x.onnx") == found


@pytest.mark.parametrize("cut", [1, 2, 1000])
def test_bytes_that_are_no_model_are_refused(cut):
    whole = with_manifest(onnx.ModelProto(producer_name="x" * 2000), tiny_detector().manifest)
    with pytest.raises(DetectorError, match="^x.onnx: not an ONNX model, or cut off"):
        replace_manifest(whole[:cut], tiny_detector().manifest, where="x.onnx")
    with pytest.raises(DetectorError, match="not an ONNX model"):
        replace_manifest(b"\x0b" + whole, tiny_detector().manifest, where="x.onnx")
