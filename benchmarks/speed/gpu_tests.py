"""The tests that need a CUDA device, run by pytest, and what came of each."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

TESTS = ("tests/backends/test_gpu.py", "tests/backends/test_contract.py", "tests/backends/test_pytorch.py")


def run_tests(scratch: Path, seconds: float) -> dict[str, Any]:
    """Count what passed, failed and was skipped, with the first line of every failure and reason."""
    report = scratch / "tests.xml"
    # Another version of a library may warn of what ours does not; that is no failure here.
    command = [sys.executable, "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider", *TESTS]
    try:
        done = subprocess.run(
            [*command, f"--junitxml={report}"],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as exc:
        return {"unfinished": (exc.stdout or b"").decode(errors="replace")[-2000:]}
    if not report.is_file():
        return {"unfinished": done.stdout.decode(errors="replace")[-2000:]}
    return counts(report)


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
