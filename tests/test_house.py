"""The three rules of the house, and what a fresh interpreter has loaded."""

from __future__ import annotations

import ast
import graphlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

ROOMS = """base processes tasks detectors images exif provenance runtimes faces sources outputs ledger
scanning reviewing feedback networks heads foreign photographs pretext training exporting fitting evaluation
command""".split()
"""From the ground up."""
DOOR = ["__init__", "__main__"]
SCAN_SIDE = ROOMS[: ROOMS.index("scanning") + 1]
LEARNING_RUNTIMES = {"torch", "sklearn", "cv2", "onnx", "scipy", "matplotlib", "pyarrow", "yaml"}
MODULES = sorted((ROOT / "bladescan").glob("*/*.py"))


def imports(path: Path) -> set[tuple[str, str]]:
    """``(room, module)`` of all that a file imports of the package, at its top or within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            above = f"{node.module}." if isinstance(node, ast.ImportFrom) and node.module else ""
            package, *inside = f"{above}{alias.name}".split(".")
            if package == "bladescan":
                found.add((*inside, "", "")[:2])
    return found


def test_every_room_has_its_floor():
    assert {path.parent.name for path in MODULES} == set(ROOMS)
    assert sorted(path.stem for path in (ROOT / "bladescan").glob("*.py")) == DOOR


def test_the_wheel_is_told_of_every_package_and_every_file():
    """An editable install finds what is not listed; a real one does not."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    places = {
        ROOT.joinpath(*told["package-dir"].get(name, name.replace(".", "/")).split("/")): name
        for name in told["packages"]
    }
    assert all(place.is_dir() for place in places)
    installed = {path for place in places for path in place.glob("*.py")}
    for place, name in places.items():
        installed |= {path for glob in told["package-data"].get(name, ()) for path in place.glob(glob)}
    tops = [place for place in places if place.parent == ROOT]
    there = {path for top in tops for path in top.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert len(tops) == 3 and sorted(there - installed) == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_rooms_below_it_alone(room):
    below = {*ROOMS[: ROOMS.index(room) + 1], "__version__", ""}
    for path in (ROOT / "bladescan" / room).glob("*.py"):
        assert {above for above, _ in imports(path)} <= below, path


@pytest.mark.parametrize("room", ROOMS)
def test_within_a_room_imports_go_round_in_no_circle(room):
    inside = {
        path.stem: {module for above, module in imports(path) if above == room}
        for path in (ROOT / "bladescan" / room).glob("*.py")
    }
    graphlib.TopologicalSorter(inside).prepare()


@pytest.mark.parametrize("path", sorted((ROOT / "backends").glob("*.py")), ids=lambda path: path.stem)
def test_a_backend_imports_the_protocol_and_its_runtime_alone(path):
    # The pytorch backend's runtime is the detector itself: one definition of the network.
    more = {("heads", "detector"), ("networks", "low_precision")} if path.stem == "pytorch" else set()
    rooms = {room for room, _ in imports(path) - more}
    assert rooms <= {"base", "detectors", "runtimes", ""}


def test_no_two_classes_have_one_name():
    paths = [*MODULES, *(ROOT / "backends").glob("*.py")]
    trees = [ast.parse(path.read_text()) for path in paths]
    names = [node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    assert sorted(names) == sorted(set(names))


OPENINGS = re.compile("(What|Whether|How|Which|Where|When|Why|The|A|An|All|One|Two|See) ")


def public_functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Public functions and methods of a module or a class; a property is a noun and left out."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(
            inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and not inner.name.startswith("_"):
            if isinstance(inner, ast.ClassDef):
                yield from public_functions(inner)
            elif not any(getattr(each, "id", "") == "property" for each in inner.decorator_list):
                yield inner


@pytest.mark.parametrize("path", [*MODULES, *(ROOT / "backends").glob("*.py")], ids=lambda path: path.stem)
def test_a_public_function_is_described_by_what_it_does(path):
    # In addition to ruff's D401, which lets openings such as "Whether" pass.
    for function in public_functions(ast.parse(path.read_text())):
        assert not OPENINGS.match(ast.get_docstring(function) or ""), function.name


def test_the_library_names_no_backend():
    for path in MODULES:
        assert "bladescan_backends." not in path.read_text().replace('startswith("bladescan_backends.")', "")


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running some code."""
    code += "\nimport json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    return set(json.loads(out.splitlines()[-1]))


def test_the_scan_side_loads_without_the_learning_side():
    # Recipes are of the learning side.
    rooms = set(SCAN_SIDE) - {"tasks"}
    names = [f"{path.parent.name}.{path.stem}" for path in MODULES if path.parent.name in rooms]
    assert not loaded_after("\n".join(f"import bladescan.{name}" for name in names)) & LEARNING_RUNTIMES


@pytest.mark.parametrize("arguments", [["--help"], ["scan", "--help"], ["fit", "--help"], ["--version"]])
def test_help_loads_no_numpy_torch_or_onnxruntime(arguments):
    code = f"""
from bladescan.command import app
try:
    app.app({arguments})
except SystemExit as exc:
    assert exc.code == 0
"""
    assert not loaded_after(code) & {"numpy", "torch", "onnxruntime", "PIL", "joblib", "msgspec"}
