"""The real command, as the benchmarks start it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def bladescan_command(*arguments: str | Path) -> list[str]:
    """Give the words of a command by this interpreter, for `subprocess`."""
    return [sys.executable, "-m", "bladescan", *map(str, arguments)]


def scan(*arguments: str | Path) -> None:
    """Scan quietly to its end, rows thrown away; a scan that fails ends the benchmark."""
    command = bladescan_command("scan", *arguments, "--quiet")
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}")
