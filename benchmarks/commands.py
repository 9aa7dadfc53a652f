"""The real command, as the benchmarks start it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


def bladescan_command(*arguments: str | Path) -> list[str]:
    """Give the words of a command by this interpreter, for `subprocess`."""
    return [sys.executable, "-m", "bladescan", *map(str, arguments)]


def scan(*arguments: str | Path) -> None:
    """Scan quietly to its end, rows thrown away; a scan that fails ends the benchmark."""
    command = bladescan_command("scan", *arguments, "--quiet")
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}")


def run(*arguments: str | Path) -> None:
    """Run a command of the product; one that fails ends the benchmark."""
    subprocess.run(bladescan_command(*arguments), stdout=subprocess.DEVNULL, check=True)


class Scanned(NamedTuple):
    """What a scan says of some pictures.

    Attributes:
        scores: a picture's most suspicious one; without what was not judged.
        flagged: share of them.
    """

    scores: list[float]
    flagged: float


def scanned(rows: Path, *arguments: str | Path) -> Scanned:
    """Scan pictures by the command, which writes its rows to a file; what files declare does not count."""
    run("scan", *arguments, "--declared", "ignore", "--fail-on", "none", "--quiet", "-o", rows)
    with rows.open() as lines:
        pictures = [one for one in map(json.loads, lines) if one["type"] == "image" and one["faces"]]
    flagged = sum(one["verdict"] == "ai-generated" for one in pictures) / len(pictures)
    return Scanned([max(face["score"] for face in one["faces"]) for one in pictures], flagged)
