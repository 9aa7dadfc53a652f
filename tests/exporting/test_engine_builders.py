"""The names that we call are in the real torch-tensorrt; the choice of a builder; one line where it fails."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import types
import zipfile

import pytest
import torch

from bladescan.base.errors import BackendError, MissingDependencyError, UnknownNameError, UsageError
from bladescan.exporting import engine_builders
from bladescan.exporting.engine_builders import build_by_torch_tensorrt, choose_builder
from bladescan.exporting.exporter import write_export
from bladescan.exporting.tensorrt import EngineExporter
from bladescan.heads.detector import save_detector
from bladescan.runtimes.engine_file import read_engine, rebuild_command
from bladescan.runtimes.tensorrt_library import TensorRTLibrary
from tests import ROOT
from tests.tiny import tiny_detector

TENSORRT = TensorRTLibrary("tensorrt", "10.99.0", None)
RTX = TensorRTLibrary("tensorrt_rtx", "1.0", None)
CALL = "convert_exported_program_to_serialized_trt_engine"


@pytest.fixture
def installed(monkeypatch):
    """The version of torch-tensorrt, as far as the choice knows."""

    def be(version):
        monkeypatch.setattr(engine_builders, "_installed", lambda: version)

    return be


def test_auto_is_torch_tensorrt_where_it_can_build_and_the_parser_elsewhere(installed):
    installed("2.14.0+cu130")
    assert choose_builder("auto", TENSORRT, "fp16") == "torch-tensorrt"
    assert choose_builder("auto", TENSORRT, "int8") == "parser"
    assert choose_builder("auto", RTX, "fp16") == "parser"
    assert choose_builder("parser", TENSORRT, "fp16") == "parser"
    for other in (None, "2.13.0"):
        installed(other)
        assert choose_builder("auto", TENSORRT, "fp16") == "parser"


def test_a_builder_that_cannot_be_had_is_refused(installed):
    for version, named in ((None, "needs torch-tensorrt 2.14 or newer"), ("2.13.0", r"\(here is 2.13.0\)")):
        installed(version)
        with pytest.raises(MissingDependencyError, match=named) as caught:
            choose_builder("torch-tensorrt", TENSORRT, "fp16")
        said = str(caught.value)
        assert "pip install 'bladescan[torch-tensorrt]', or use --builder parser" in said and "\n" not in said
    with pytest.raises(UsageError, match="does not go with --precision int8; use --builder parser"):
        choose_builder("torch-tensorrt", TENSORRT, "int8")
    with pytest.raises(UsageError, match="does not go with tensorrt-rtx"):
        choose_builder("torch-tensorrt", RTX, "fp16")
    with pytest.raises(UnknownNameError, match="Available: auto, parser, torch-tensorrt"):
        choose_builder("onnx", TENSORRT, "fp16")


def test_a_library_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "torch_tensorrt.py").write_text("raise RuntimeError('Found no NVIDIA driver\\nPlease check')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch_tensorrt", raising=False)
    expected = r"torch_tensorrt cannot be imported here \(Found no NVIDIA driver\): use --builder parser"
    with pytest.raises(BackendError, match=expected) as caught:
        build_by_torch_tensorrt(torch.nn.Identity(), size=224, max_batch=4, device="cpu")
    assert "\n" not in str(caught.value)


def a_fake(calls, engine=b"engine"):
    """A torch_tensorrt that keeps what it is called with; the program that it gets is a real one."""

    def convert(program, **named):
        calls.append((program, named))
        if engine is None:
            raise RuntimeError("Conversion of module is\nnot supported")
        return engine

    library = types.ModuleType("torch_tensorrt")
    library.Input = lambda **named: named
    library.dynamo = types.SimpleNamespace(**{CALL: convert})
    return library


class Means(torch.nn.Module):
    """Crops to three numbers each."""

    def forward(self, crops):
        return crops.float().mean((1, 2))


def test_the_program_takes_every_batch_and_computes_the_module(monkeypatch):
    calls = []
    monkeypatch.setitem(sys.modules, "torch_tensorrt", a_fake(calls))
    assert build_by_torch_tensorrt(Means(), size=8, max_batch=5, device="cpu") == b"engine"
    ((program, named),) = calls
    assert named["arg_inputs"][0] == {
        "min_shape": (1, 8, 8, 3),
        "opt_shape": (5, 8, 8, 3),
        "max_shape": (5, 8, 8, 3),
        "dtype": torch.uint8,
    }
    for n in (1, 3, 5):
        crops = torch.randint(0, 256, (n, 8, 8, 3), dtype=torch.uint8)
        torch.testing.assert_close(program.module()(crops), Means()(crops))


def test_what_it_cannot_build_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_tensorrt", a_fake([], None))
    with pytest.raises(
        BackendError, match="^torch_tensorrt cannot build the engine: Conversion of module is$"
    ):
        build_by_torch_tensorrt(Means(), size=8, max_batch=1, device="cpu")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The sources of the real torch-tensorrt; its import would want a driver."""
    if path := os.environ.get("BLADESCAN_TEST_TORCH_TENSORRT"):
        return zipfile.ZipFile(path)
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", folder]
    try:
        done = subprocess.run([*command, "torch-tensorrt"], capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.skip("torch-tensorrt did not arrive in time")
    wheels = list(folder.glob("torch_tensorrt-*.whl"))
    if not wheels:
        pytest.skip(f"torch-tensorrt cannot be had here: {done.stderr.strip().splitlines()[-1:]}")
    return zipfile.ZipFile(wheels[0])


def tree(wheel, name):
    return ast.parse(wheel.read(f"torch_tensorrt/{name}"))


def our_call(name):
    """The keywords of our call of a function or class of theirs."""
    source = (ROOT / "bladescan" / "exporting" / "engine_builders.py").read_text()
    (call,) = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == name
    ]
    return {keyword.arg for keyword in call.keywords if keyword.arg}


@pytest.mark.integration
def test_the_real_torch_tensorrt_is_one_that_the_extra_takes(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = wheel.read(name).decode()
    assert engine_builders._is_new_enough(re.search(r"^Version: (.*)$", metadata, re.MULTILINE)[1])
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    oldest = ".".join(map(str, engine_builders._OLDEST))
    assert extras["torch-tensorrt"] == ["bladescan[train,tensorrt]", f"torch-tensorrt>={oldest}"]


@pytest.mark.integration
def test_every_name_that_we_call_is_in_the_real_torch_tensorrt(wheel):
    functions = [
        node for node in ast.walk(tree(wheel, "dynamo/_compiler.py")) if isinstance(node, ast.FunctionDef)
    ]
    (convert,) = [node for node in functions if node.name == CALL]
    taken = {argument.arg for argument in (*convert.args.args, *convert.args.kwonlyargs)}
    ours = our_call(CALL)
    assert len(ours) > 4 and ours <= taken, ours - taken
    for name, imported in (("dynamo/__init__.py", CALL), ("__init__.py", "Input")):
        nodes = [node for node in ast.walk(tree(wheel, name)) if isinstance(node, ast.ImportFrom)]
        assert imported in {alias.name for node in nodes for alias in node.names}, name
    taken_by_input = wheel.read("torch_tensorrt/_Input.py").decode()
    for name in ("min_shape", "opt_shape", "max_shape", *our_call("Input")):
        assert f'"{name}"' in taken_by_input, name


def test_an_engine_says_which_builder_made_it_and_how_to_build_it_again(fake, tmp_path):
    save_detector(tiny_detector(), tmp_path / "d.safetensors")
    write_export(
        EngineExporter(tmp_path / "d.safetensors", builder="parser", max_batch=4), tmp_path / "d.engine"
    )
    build = read_engine(tmp_path / "d.engine").build
    assert build.builder == "parser"
    assert "--builder parser" in rebuild_command(build, tmp_path / "d.engine")
