"""Fixtures: a fake TensorRT and CUDA device, and an engine of the tiny detector built on them."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from bladescan.command import app as cli
from bladescan.heads.detector import save_detector
from tests.once import once
from tests.tiny import tiny_detector

FAKE = Path(__file__).parent / "fake_runtime"
FAKE_MODULES = ("tensorrt", "cuda", "cuda.bindings", "cuda.bindings.runtime")


@pytest.fixture(scope="module")
def fake():
    """TensorRT and a CUDA device, as far as bladescan can tell."""
    with pytest.MonkeyPatch.context() as patch:
        for name in FAKE_MODULES:
            patch.delitem(sys.modules, name, raising=False)
        patch.syspath_prepend(FAKE)
        import tensorrt
        from cuda.bindings import runtime

        yield SimpleNamespace(tensorrt=tensorrt, cuda=runtime)
        for name in FAKE_MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def engine(fake, tmp_path_factory):
    """An engine of the tiny detector that takes three crops at most, built by the command."""
    folder = tmp_path_factory.mktemp("engines")
    save_detector(tiny_detector(), folder / "d.safetensors")
    shutil.copyfile(once("d.engine", _build), folder / "d.engine")
    return folder / "d.engine"


def _build(path):
    save_detector(tiny_detector(), path.with_name("d.safetensors"))
    command = ["export", str(path.with_name("d.safetensors")), "--to", "tensorrt", "--precision", "fp32"]
    built = path.with_name("built.engine")  # a kind is known by its suffix
    done = CliRunner().invoke(cli.app, [*command, "--max-batch", "3", "-o", str(built)])
    assert done.exit_code == 0, done.output
    assert "built_for: Fake 9000 (9.0)" in done.output
    built.rename(path)
