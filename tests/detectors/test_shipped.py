"""The detectors that ship are found by name, by which files are there."""

from pathlib import Path

import pytest

from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.detectors import shipped


@pytest.fixture()
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    for name in ("fast.onnx", "fast.safetensors", "blades.onnx", "blades.safetensors", "accurate.onnx"):
        (tmp_path / name).touch()
    return tmp_path


def test_every_default_ships_in_this_package_or_the_last_does():
    assert set(shipped.DEFAULTS) <= set(shipped.DETECTORS)
    found = [path.name for path in shipped.shipped_files("blades")]
    assert found == ["blades.onnx", "blades.safetensors"]


def test_the_default_is_the_first_that_is_there(folder):
    assert shipped.default_file() == folder / "fast.onnx"
    assert shipped.default_file((".safetensors",)) == folder / "fast.safetensors"
    (folder / "cascade.cascade").touch()
    assert shipped.default_file() == folder / "cascade.cascade"
    assert shipped.default_file((".onnx",)) == folder / "fast.onnx"
    for path in folder.glob("*fast.*"):
        path.unlink()
    assert shipped.default_file((".onnx",)) == folder / "blades.onnx"
    assert shipped.default_file((".engine",)) is None


def test_a_name_is_a_shipped_one_and_a_path_is_ones_own(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert shipped.named_detector("fast") == folder / "fast.onnx"
    assert shipped.named_detector("fast", (".safetensors", ".onnx")) == folder / "fast.safetensors"
    for own in ("./fast", "fast.onnx", "absent.onnx", "a/b"):
        assert shipped.named_detector(own) == Path(own)
    assert shipped.named_detector(Path("fast")) == Path("fast")
    (tmp_path / "run").mkdir()
    assert shipped.named_detector("run") == Path("run")  # an encoder run


def test_a_name_that_is_none_says_which_there_are(folder):
    with pytest.raises(UnknownNameError, match="'fsat'. Did you mean 'fast'.*accurate, blades, fast"):
        shipped.named_detector("fsat")
    with pytest.raises(UnknownNameError, match="unknown shipped detector 'cascade'"):
        shipped.named_detector("cascade")  # it is one, but is not there


def test_a_form_that_a_detector_lacks_is_told_with_those_that_have_it(folder):
    with pytest.raises(UsageError, match="'accurate' has no form .safetensors, only .onnx; fast, blades"):
        shipped.named_detector("accurate", (".safetensors",))


def test_only_files_of_the_package_ship(folder):
    assert shipped.is_shipped(folder / "fast.onnx")
    assert not shipped.is_shipped(folder / "mine.onnx")
    assert not shipped.is_shipped(Path("fast.onnx"))
