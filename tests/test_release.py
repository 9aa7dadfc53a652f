"""What a release needs: the Dockerfile, workflows, citation and site are what the project says."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bladescan import __version__
from tests import ROOT

yaml = pytest.importorskip("yaml")
IMAGE = runpy.run_path(str(ROOT / ".ci" / "image.py"))
FOUND = IMAGE["instructions"]((ROOT / "Dockerfile").read_text())
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
CITED = yaml.safe_load((ROOT / "CITATION.cff").read_text())
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_the_image_is_not_root_and_installs_extras_that_exist(variant):
    stages = IMAGE["stages"](FOUND, {"VARIANT": variant})
    final = dict(stages["final"])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", final["USER"]) and final["ENTRYPOINT"] == '["bladescan"]'
    extras = IMAGE["variables"](stages["build"])["BLADESCAN_EXTRAS"].split(",")
    assert set(extras) <= set(EXTRAS) and ("train" in extras) == (variant == "cuda")


def test_the_image_is_given_what_it_copies_and_no_picture():
    copied = {
        name for word, rest in FOUND if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]
    }
    assert copied and all((ROOT / name).exists() for name in copied)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed


def test_the_image_has_what_the_package_is_built_of():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    places = {"bladescan", *project["tool"]["setuptools"]["package-dir"].values()}
    places |= {
        Path(name).parts[0]
        for names in project["tool"]["setuptools"]["data-files"].values()
        for name in names
    }
    places |= {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"}
    copied = {name for word, rest in FOUND if word == "COPY" for name in rest.split()[:-1]}
    assert places <= copied
    built = (ROOT / ".ci" / "build").read_text()
    assert all(f" {place} " in built for place in places)


def test_the_dockerfile_has_no_fault_that_hadolint_knows():
    hadolint = shutil.which(
        "hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ) or pytest.skip("no hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert not done.returncode, done.stdout


def test_the_citation_is_of_this_version():
    assert CITED["version"] == __version__ and CITED["license"] == "Apache-2.0"
    assert CITED["preferred-citation"]["title"] in (ROOT / "README.md").read_text()


def test_both_packages_have_this_version_and_are_built_and_published():
    accurate = tomllib.loads((ROOT / "accurate" / "pyproject.toml").read_text())["project"]
    assert accurate["version"] == __version__
    ((name, least),) = [need.split(">=") for need in accurate["dependencies"]]
    assert name == "bladescan" and tuple(map(int, least.split("."))) <= tuple(
        map(int, __version__.split(".")[:2])
    )
    assert "for package in main accurate" in (ROOT / ".ci" / "build").read_text()
    release = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert "accurate/pyproject.toml" in release and "dist/*" in release


def test_the_changelog_has_this_version_below_what_is_to_come():
    found = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", CHANGELOG, re.MULTILINE)
    assert found[0] == ("Unreleased", "")
    assert found[1][0] == __version__ and found[1][1]
    assert str(CITED["date-released"]) == found[1][1]


def steps(path):
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_pin_what_they_use_and_run_what_is_there(path):
    for step in steps(path):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step.get("uses", "a/b@" + 40 * "0")), step
        for name in re.findall(r"(?:^|[ =])(\.ci/\S+)", step.get("run", "")):
            assert (ROOT / name).exists(), name
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}


def test_ci_runs_every_python_that_is_promised():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert ci["jobs"]["run"]["strategy"]["matrix"]["python"] == promised


@pytest.mark.parametrize(
    "name", ["dependabot.yml", *(f"ISSUE_TEMPLATE/{n}.yml" for n in ("bug", "verdict", "wish"))]
)
def test_forms_are_yaml_with_what_they_need(name):
    form = yaml.safe_load((ROOT / ".github" / name).read_text())
    if name == "dependabot.yml":
        assert {update["package-ecosystem"] for update in form["updates"]} == {
            "github-actions",
            "pip",
            "docker",
        }
    else:
        assert form["name"] and form["description"] and all("type" in part for part in form["body"])


def test_every_page_has_its_place_in_the_site():
    text = re.sub(r"!!python\S+", "", (ROOT / "mkdocs.yml").read_text())
    sections = yaml.safe_load(text)["nav"]
    pages = [page for section in sections for part in section.values() for page in part]
    named = {page if isinstance(page, str) else next(iter(page.values())) for page in pages}
    outside = re.findall(r'": "([\w-]+\.md)"', (ROOT / ".ci" / "site_links.py").read_text())
    assert named == {path.name for path in (ROOT / "docs").glob("*.md")} | set(outside)
