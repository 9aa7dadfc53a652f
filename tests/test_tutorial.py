"""Every command of the tutorial is run, in order, and says what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

PAGE = (ROOT / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(sh|text)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.integration
def test_the_tutorial_does_what_it_says(tmp_path):
    pytest.importorskip("matplotlib", reason="the samples need the extra demo")
    environment = dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    said = ""
    for kind, text in BLOCKS:
        if kind == "text":
            assert said == text
            continue
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        said = done.stdout
    assert (tmp_path / "review.html").stat().st_size > 10_000
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_the_tutorial_shows_what_some_commands_say():
    assert [kind for kind, _ in BLOCKS].count("text") >= 4
