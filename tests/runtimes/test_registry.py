from __future__ import annotations

import sys
from pathlib import Path

import bladescan_backends
import pytest

from bladescan.base.errors import BackendError, UnknownNameError
from bladescan.runtimes.registry import ENTRY_POINT_GROUP, plugin_files


def _register(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """What an installed package has beside its code."""
    info = folder / "made_up-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\nmade_up = {module}:plugin\n")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    for name in [name for name in sys.modules if name.startswith("made_up")]:
        monkeypatch.delitem(sys.modules, name)


def _write(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return paths


def test_the_code_of_our_backends_is_every_module_of_their_package():
    package = Path(bladescan_backends.__file__).parent
    assert plugin_files("onnx") == sorted(package.rglob("*.py"))


def test_the_code_of_a_package_is_all_below_its_outermost_folder(tmp_path, monkeypatch):
    code = _write(tmp_path, "made_up_a/__init__.py", "made_up_a/fast.so", "made_up_a/sub/__init__.py")
    code += _write(tmp_path, "made_up_a/sub/backend.py")
    _write(tmp_path, "made_up_a/weights.bin", "made_up_a/__pycache__/x.pyc")
    _register(tmp_path, monkeypatch, "made_up_a.sub.backend")
    assert plugin_files("made_up") == sorted(code)


def test_the_code_of_one_module_is_that_module(tmp_path, monkeypatch):
    (module,) = _write(tmp_path, "made_up_b.py")
    _write(tmp_path, "other.py")
    _register(tmp_path, monkeypatch, "made_up_b")
    assert plugin_files("made_up") == [module]


def test_a_namespace_is_not_searched_for_other_peoples_code(tmp_path, monkeypatch):
    code = _write(tmp_path, "made_up_c/ours/__init__.py", "made_up_c/ours/backend.py")
    _write(tmp_path, "made_up_c/theirs/__init__.py")
    _register(tmp_path, monkeypatch, "made_up_c.ours.backend")
    assert plugin_files("made_up") == code


def test_a_backend_that_is_registered_but_gone_is_one_line(tmp_path, monkeypatch):
    _register(tmp_path, monkeypatch, "made_up_d.backend")
    with pytest.raises(BackendError, match=r"'made_up' \(made_up_d.backend\): no such module"):
        plugin_files("made_up")
    with pytest.raises(UnknownNameError, match="Did you mean 'onnx'"):
        plugin_files("onix")
