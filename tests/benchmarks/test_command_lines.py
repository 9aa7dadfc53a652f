"""Every benchmark says how it is run, and every command line that names one is right."""

from __future__ import annotations

import importlib
import re

import pytest

from tests import ROOT

NAMES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted(ROOT.glob("benchmarks/*/*.py"))
    if "__main__" in path.read_text()
]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bladescan/**/*.md"), ROOT / ".ci/long"]
# As pages write it, on lines that a backslash joins, and as .ci/long does: `job TITLE NAME OPTIONS`.
LINE = re.compile(r"(?:python -m|job \S+) (benchmarks\.[\w.]+)((?:[^\n`\\#]|\\\n)*)")
TOLD = [
    pytest.param(name, options, id=f"{page.name}-{name}")
    for page in PAGES
    for name, options in LINE.findall(page.read_text())
]


@pytest.fixture
def help_of(monkeypatch, capsys):
    def text(name: str) -> str:
        monkeypatch.setattr("sys.argv", [name, "--help"])
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(name).main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    return text


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_answers_help_with_what_it_shows_and_its_command_line(name, help_of):
    about = importlib.import_module(name).__doc__
    text = " ".join(help_of(name).split())
    assert f"python -m {name}" in about
    assert " ".join(about.splitlines()[0].split()) in text


OPTION = r"(?<![\w-])--?[a-z][a-z-]*"


@pytest.mark.parametrize("name,options", TOLD)
def test_the_pages_run_benchmarks_that_there_are_with_options_that_they_have(name, options, help_of):
    assert name in NAMES
    ours = options.split(" -- ")[0].split(" > ")[0]
    assert {*re.findall(OPTION, ours)} <= {*re.findall(OPTION, help_of(name))}


def test_the_pages_name_files_that_there_are():
    for page in PAGES:
        for path in re.findall(r"\b(?:benchmarks|tests)/[\w/]+\.py", page.read_text()):
            assert (ROOT / path).is_file(), f"{page.name}: {path}"
