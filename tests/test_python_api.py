"""The public door: its names, what it loads, and every line of Python in docs/python-api.md."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

import bladescan
from bladescan.base import errors
from tests import ROOT

PAGE = (ROOT / "docs" / "python-api.md").read_text()
SECTIONS = [section for section in re.split(r"^(?=## )", PAGE, flags=re.MULTILINE) if "```python" in section]


def title(section: str) -> str:
    return section.splitlines()[0].removeprefix("## ")


def test_the_names_are_listed_alike_for_the_interpreter_and_for_type_checkers():
    tree = ast.parse((ROOT / "bladescan" / "__init__.py").read_text())
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.name: node.module for node in checked.body for alias in node.names}
    assert imported == {name: f"bladescan.{module}" for name, module in bladescan._HOMES.items()}
    assert bladescan.__all__ == sorted([*imported, "__version__"])


@pytest.mark.parametrize("name", bladescan.__all__)
def test_a_public_name_is_there_and_says_what_it_is(name):
    assert inspect.getdoc(getattr(bladescan, name))
    assert name in dir(bladescan)


def test_every_error_is_public():
    of_ours = {name for name, value in vars(errors).items() if inspect.isclass(value) and name != "Reason"}
    assert {name for name in of_ours if issubclass(vars(errors)[name], Exception)} <= set(bladescan.__all__)


def test_a_name_that_is_none_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'scam'"):
        _ = bladescan.scam


def loaded(code: str) -> set[str]:
    code += "; import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return set(json.loads(done.stdout))


def test_the_package_alone_loads_nothing_of_itself():
    assert {name for name in loaded("import bladescan") if name.startswith("bladescan.")} == set()


def test_scanning_from_python_loads_no_pytorch():
    code = "import bladescan; bladescan.Scanner, bladescan.run_scan, bladescan.OutputOptions"
    assert not loaded(code) & {"torch", "sklearn", "cv2", "onnx"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, samples):
    """What the page's code finds where it runs."""
    folder = tmp_path_factory.mktemp("python-api")
    (folder / "samples").symlink_to(samples)
    portrait = Image.open(samples / "portrait.jpg").resize((200, 234))
    rng = np.random.default_rng(5)
    for name, n in (("photographs", 66), ("generated", 12)):
        (folder / name).mkdir()
        for i in range(n):
            bright = ImageEnhance.Brightness(portrait).enhance(rng.uniform(0.6, 1.4))
            picture = bright.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC)
            blurred = picture.filter(ImageFilter.GaussianBlur(1.5)) if name == "generated" else picture
            # Before a background of its own: near-copies would be left out.
            ground = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(
                (420, 420), Image.Resampling.BICUBIC
            )
            ground.paste(blurred, tuple(rng.integers(0, 180, 2).tolist()))
            ground.save(folder / name / f"{i:02}.jpg", quality=int(rng.integers(70, 96)))
    return folder


@pytest.mark.parametrize("section", SECTIONS, ids=title)
def test_every_line_of_the_page_runs(section, folder):
    blocks = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    code = "import bladescan\n" + "\n".join(blocks)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False
    )
    # loky's tracker of semaphores may be quicker or slower than the workers that it tracks, and says so.
    said = [
        line for line in done.stderr.splitlines() if "resource_tracker" not in line and "warn(" not in line
    ]
    assert done.returncode == 0 and not said, done.stderr
    if 'save("faces.png")' in code:
        assert (folder / "faces.png").stat().st_size > 1000
