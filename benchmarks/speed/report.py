"""What the benchmarks of speed write: figures as JSON, a page of Markdown, and what machine they ran on."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bladescan.processes.resources import n_cores

Figures = Mapping[str, Any]


def machine(packages: Iterable[str]) -> dict[str, Any]:
    """Describe what a benchmark runs on: cores, Python, and those of the packages that are installed."""
    versions = {}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"cores": n_cores(), "python": platform.python_version(), "packages": versions}


def publish(
    folder: Path, name: str, measure: Callable[[Path], Figures], page: Callable[[Figures], str]
) -> Figures:
    """Measure in a scratch folder; write ``name.json`` and ``name.md`` into the folder, and print that."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(Path(scratch))
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1))
    text = page(found)
    (folder / f"{name}.md").write_text(text)
    print(text)
    return found
