"""What the documentation promises is what there is."""

from __future__ import annotations

import dataclasses
import re
import runpy
import shlex
import shutil
import subprocess
import tomllib
from itertools import pairwise

import pytest
from typer.main import get_command

import bladescan
from bladescan import __version__
from bladescan.base.records import Reason, Verdict
from bladescan.command.app import app
from bladescan.evaluation.report import METRIC_TITLES
from bladescan.exporting.kinds import EXPORTERS
from bladescan.faces.finders import FACE_FINDERS
from bladescan.outputs.formats import OUTPUT_FORMATS, SUFFIXES
from bladescan.outputs.rows import COLUMNS
from bladescan.outputs.run import RunInfo, RunSummary
from bladescan.tasks.shipped_recipes import shipped_recipes
from tests import ROOT
from tests.test_house import ROOMS, imports

GENERATE = runpy.run_path(str(ROOT / ".ci" / "generate_docs.py"))
TEXT = {path.name: path.read_text() for path in [*ROOT.glob("docs/*.md"), *ROOT.glob("*.md")]}


def test_the_command_reference_is_what_the_command_says():
    assert TEXT["cli.md"] == GENERATE["reference"](), "stale: python .ci/generate_docs.py"


def test_the_manual_page_is_what_the_command_says():
    assert (ROOT / "man" / "bladescan.1").read_text() == GENERATE["manual"](), "stale: .ci/generate_docs.py"


def test_the_manual_page_is_whole_and_well_formed():
    page = ROOT / "man" / "bladescan.1"
    text = page.read_text().replace("\\-", "-")
    for option in re.findall(r"^\* `([^`<]*--[\w-]+)", TEXT["cli.md"], re.MULTILINE):
        assert re.search(rf"^\.B {re.escape(option)}", text, re.MULTILINE), option
    if shutil.which("groff") is None:
        pytest.skip("no groff to read the page with")
    read = subprocess.run(["groff", "-man", "-ww", "-Tutf8", page], capture_output=True, check=True)
    assert read.stderr == b"" and b"bladescan - tell AI-generated faces" in read.stdout


def test_the_public_names_are_listed_with_what_they_are():
    page = TEXT["python-api.md"]
    assert page == GENERATE["python_api"](page), "stale: python .ci/generate_docs.py"
    listed = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE))
    assert set(listed) == set(bladescan.__all__) and all(listed.values())


def test_every_variable_is_listed():
    page = TEXT["configuration.md"]
    assert page == GENERATE["configuration"](page), "stale: python .ci/generate_docs.py"
    paths = [*ROOT.glob("bladescan/*/*.py"), *ROOT.glob("backends/*.py")]
    named = {name for path in paths for name in re.findall(r'"(BLADESCAN_[A-Z_]+)"', path.read_text())}
    assert len(named) > 5 and all(f"`{name}" in page for name in named), named


def test_the_readme_names_every_extra_and_what_all_leaves_out():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"^\| (`.*?) \|", TEXT["README.md"], re.MULTILINE)
    assert set(re.findall(r"`([\w-]+)`", "".join(named))) == set(extras) - {"dev", "docs"}
    included = set(re.search(r"\[(.*)\]", *extras["all"])[1].split(","))
    left_out = re.search(r"^\| `all` \| all of these but (.*) \|", TEXT["README.md"], re.MULTILINE)[1]
    # The packages of mtcnn are among those of train.
    assert set(extras) - included - {"all", "dev", "docs", "mtcnn"} == set(
        re.findall(r"`([\w-]+)`", left_out)
    )


def test_the_command_reference_cuts_no_summary_off():
    assert not re.findall(r"^\* `.*\.\.\.$", TEXT["cli.md"], re.MULTILINE)


def test_the_table_of_rooms_is_what_the_rooms_say():
    page = TEXT["CONTRIBUTING.md"]
    assert page == GENERATE["contributing"](page, ROOMS), "stale: python .ci/generate_docs.py"


@pytest.mark.parametrize(
    "path,name", re.findall(r"\| `(\w+/\w+\.py)`: [^|]*?`([A-Z_]+)`", TEXT["architecture.md"])
)
def test_every_table_that_a_contributor_is_sent_to_is_there(path, name):
    assert re.search(rf"^{name}\b", (ROOT / "bladescan" / path).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", [*COLUMNS, *SUFFIXES.values(), *(v.value for v in Verdict)])
def test_every_column_format_and_verdict_is_documented(name):
    assert f"`{name}`" in TEXT["output.md"] or f"|{name}" in TEXT["output.md"]


@pytest.mark.parametrize(
    "name", [field.name for cls in (RunInfo, RunSummary) for field in dataclasses.fields(cls)]
)
def test_every_field_of_the_run_and_its_summary_is_documented(name):
    assert f"`{name}`" in TEXT["output.md"] or f'"{name}"' in TEXT["output.md"]


@pytest.mark.parametrize("reason", [reason.value for reason in Reason])
def test_every_reason_is_documented(reason):
    assert f"`{reason}`" in TEXT["formats.md"]


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_recipe_is_documented(name):
    assert f"`{name}`" in TEXT["training.md"]


@pytest.mark.parametrize("name", FACE_FINDERS)
def test_every_face_finder_is_documented_and_named_by_the_command(name):
    assert f"`{name}`" in TEXT["faces.md"]
    (option,) = {line for line in TEXT["cli.md"].splitlines() if line.startswith("* `--faces NAME`: ")}
    assert re.search(rf"\b{name}\b", option)


def test_every_kind_of_export_is_named_by_the_command():
    assert f"* `--to {'|'.join(EXPORTERS)}`" in TEXT["cli.md"]


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
def test_every_output_format_is_named_by_the_command(name):
    assert re.search(rf"\* `--format NAME`: .*\b{name}\b", TEXT["cli.md"])


@pytest.mark.parametrize("name", METRIC_TITLES)
def test_every_metric_is_documented(name):
    assert f"`{name}`" in TEXT["evaluation.md"]


def anchors(page):
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_pages_lead_somewhere():
    for page in [*ROOT.glob("docs/*.md"), *ROOT.glob("*.md")]:
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
            to = page.parent / target if target else page
            assert to.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(to), f"{page.name}: {target}#{anchor}"


def test_the_version_is_the_changelogs_newest_or_not_yet_released():
    released = re.findall(r"^## \[(\d[^\]]*)\]", TEXT["CHANGELOG.md"], re.MULTILINE)
    assert "## [Unreleased]" in TEXT["CHANGELOG.md"]
    assert not released or released[0] == __version__


def test_modules_that_the_architecture_page_names_exist():
    for module in re.findall(r"`(\w+/\w+\.py)`", TEXT["architecture.md"]):
        assert (ROOT / "bladescan" / module).exists(), module


def test_names_that_pages_import_exist():
    lines = {
        line
        for page in ROOT.glob("docs/*.md")
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
        if re.match(r"from bladescan|import bladescan", line)
    }
    assert lines
    for line in sorted(lines):
        exec(line, {})


PAGES = [page for page in [*ROOT.glob("docs/*.md"), *ROOT.glob("*.md")] if page.name != "cli.md"]
CODE = {page: re.sub(r"\\\n\s*|\s#.*|\.\.\.", " ", page.read_text()) for page in PAGES}
COMMANDS = "|".join(get_command(app).commands)


def commands_of(page):
    lines = re.findall(r"^(?: {4,}|\S*/|[A-Z_]+=\S* |[a-z]\w* ).*", CODE[page], re.MULTILINE)
    pattern = rf"(?<![\w`-])bladescan ((?:{COMMANDS})\b[^|<>;&`]*)"
    return [found for line in lines for found in re.findall(pattern, line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_command_takes_what_a_page_tells_it(page):
    for line in commands_of(page):
        command, (name, *arguments) = get_command(app), shlex.split(line)
        while hasattr(command := command.commands[name], "commands"):
            name, *arguments = arguments
        command.make_context("bladescan", arguments)


def test_benchmarks_that_pages_name_exist_with_their_options():
    found = {
        line for text in CODE.values() for line in re.findall(r"python -m benchmarks\.([^|`\n)]*)", text)
    }
    assert len(found) > 10
    for line in found:
        module, *options = line.split()
        source = (ROOT / "benchmarks" / f"{module.replace('.', '/')}.py").read_text()
        ours = options[: options.index("--")] if "--" in options else options
        for option in (option for option in ours if option.startswith("--")):
            assert option in source or option in (ROOT / "benchmarks/quality/pictures.py").read_text(), line


def uses(room):
    paths = (ROOT / "bladescan" / room).glob("*.py")
    return {used for path in paths for used, _ in imports(path)} & set(ROOMS)


def test_the_arrows_of_the_architecture_page_are_imports():
    picture = re.search(r"^    command .*?^    base$", TEXT["architecture.md"], re.MULTILINE | re.DOTALL)
    for floor in picture[0].splitlines():
        arrows = set()
        for group in re.split(r" {4,}", floor.strip()):
            stages = [set(re.findall("[a-z]+", stage)) & set(ROOMS) for stage in group.split("→")]
            arrows |= {(a, b) for above, below in pairwise(stages) for a in above for b in below}
        assert all(below in uses(above) for above, below in arrows), floor


def test_every_room_that_works_on_a_scans_parts_is_named():
    (said,) = re.findall(r"Four rooms above it .*?:(.*) cut the faces", TEXT["architecture.md"], re.DOTALL)
    above = ROOMS[ROOMS.index("scanning") + 1 : -1]
    assert {room for room in above if "scanning" in uses(room)} == set(re.findall(r"`(\w+)`", said))


@pytest.mark.parametrize(
    "thing",
    ["an image format", "a face finder", "an output format", "a pretext task", "a bucket scheme", "a recipe"]
    + ["a kind of export", "a metric", "a generator's mark", "a backend", "a command", "an option"],
)
def test_the_architecture_page_says_where_to_add(thing):
    assert re.search(rf"^\| {thing} \|", TEXT["architecture.md"], re.MULTILINE)


def test_the_floors_of_the_architecture_page_are_those_of_the_imports():
    picture = re.search(r"^    command .*?^    base$", TEXT["architecture.md"], re.MULTILINE | re.DOTALL)
    floors = [set(re.findall(r"[a-z]+", line[4:])) & set(ROOMS) for line in picture[0].splitlines()]
    floor_of = {room: -n for n, floor in enumerate(floors) for room in floor}
    assert set(floor_of) == set(ROOMS)
    for room in ROOMS:
        assert all(floor_of[used] <= floor_of[room] for used in uses(room)), room
