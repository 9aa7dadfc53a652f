"""Backends are found by name and by kind of file; what cannot be imported is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import bladescan_backends
import pytest

from bladescan.base.errors import BackendError, UnknownNameError, UsageError
from bladescan.runtimes.registry import (
    DISABLE_VARIABLE,
    ENTRY_POINT_GROUP,
    choose_plugin,
    get_plugin,
    plugin_files,
    plugin_names,
)
from tests import ROOT

BACKENDS = ROOT / "tests" / "backends"


def test_auto_chooses_by_the_kind_of_file():
    assert choose_plugin("auto", Path("a.onnx")).name == "onnx"
    assert choose_plugin("auto", Path("a.SafeTensors")).name == "pytorch"
    with pytest.raises(UsageError, match="no backend opens 'a.pth'"):
        choose_plugin("auto", Path("a.pth"))
    with pytest.raises(UnknownNameError, match="Did you mean 'onnx'"):
        get_plugin("onxx")


def declare(folder, package, entry):
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[bladescan.backends]\n{entry}\n")


def test_two_packages_with_one_name_are_an_error(tmp_path, monkeypatch):
    declare(tmp_path, "rival", "onnx = rival:plugin")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendError, match="two packages register the backend 'onnx'.*rival:plugin"):
        plugin_names()
    monkeypatch.setenv(DISABLE_VARIABLE, "1")
    assert "onnx" in plugin_names()


def test_a_plugin_that_cannot_be_imported_is_told_and_can_be_turned_off(tmp_path, monkeypatch):
    declare(tmp_path, "broken", "broken = no_such_module:plugin\nodd = os:path")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendError, match="'broken'.*cannot be imported"):
        get_plugin("broken")
    with pytest.raises(BackendError, match="'odd'.*is not a BackendPlugin"):
        get_plugin("odd")
    monkeypatch.setenv(DISABLE_VARIABLE, "1")
    with pytest.raises(UnknownNameError):
        get_plugin("broken")


@pytest.mark.integration
def test_a_third_party_plugin_meets_the_same_contract(tmp_path):
    if "relay" in plugin_names():
        pytest.skip("this is the run over the plugin itself")
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(BACKENDS / "plugin_package", source)  # a build writes beside its source
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    install += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(target), str(source)]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "PYTHONPATH": str(target)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "contract and relay"]
    command += [f"--basetemp={tmp_path / 'inner'}"]
    done = subprocess.run(
        [*command, BACKENDS / "test_contract.py"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "failed" not in done.stdout and "passed" in done.stdout
    assert "skipped" not in done.stdout
    code = "from bladescan.runtimes.registry import plugin_names; print(*plugin_names())"
    listed = [
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout.split()
        for env in (environment, {**environment, DISABLE_VARIABLE: "1"})
    ]
    assert set(listed[0]) - set(listed[1]) == {"relay"}


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
