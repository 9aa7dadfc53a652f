"""The tests that need a CUDA device, run by pytest, and what came of each."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

TESTS = ("-m", "gpu", "tests/backends/test_gpu.py")
_OUTCOME = re.compile(r"^\S+::\S+ (PASSED|FAILED|ERROR|SKIPPED)\b", re.MULTILINE)


def run_tests(scratch: Path, seconds: float) -> dict[str, Any]:
    """Count what passed, failed and was skipped, with the first line of every failure and reason."""
    report = scratch / "tests.xml"
    # Another version of a library may warn of what ours does not; that is no failure here.
    command = [sys.executable, "-m", "pytest", "-v", "-W", "default", "-p", "no:cacheprovider", *TESTS]
    try:
        done = subprocess.run(
            [*command, f"--junitxml={report}"],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as exc:
        return unfinished((exc.stdout or b"").decode(errors="replace"))
    if not report.is_file():
        return unfinished(done.stdout.decode(errors="replace"))
    return counts(report)


def unfinished(said: str) -> dict[str, Any]:
    """Count what came of the tests until they were broken off, with the last that was said."""
    outcomes = Counter(found.lower() for found in _OUTCOME.findall(said))
    return {"until_then": dict(outcomes), "unfinished": said[-2000:]}


def counts(report: Path) -> dict[str, Any]:
    """Read the report of pytest."""
    found: dict[str, Any] = {"passed": 0, "failed": {}, "skipped": {}}
    for case in ElementTree.parse(report).iter("testcase"):
        what = {child.tag: child.get("message", "").splitlines() for child in case}
        if said := what.get("failure", what.get("error")):
            found["failed"][case.get("name")] = said[0]
        elif "skipped" in what:
            why = what["skipped"][0]
            found["skipped"][why] = found["skipped"].get(why, 0) + 1
        else:
            found["passed"] += 1
    return found
