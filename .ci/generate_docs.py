"""Write docs/cli.md from the command itself: ``python .ci/generate_docs.py``; a test checks it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bladescan.exit_codes import MEANINGS

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"


def page() -> str:
    """The reference of the command as Markdown."""
    command = [sys.executable, "-m", "typer", "bladescan.cli", "utils", "docs", "--name", "bladescan"]
    environment = dict(os.environ) | {"COLUMNS": "100"}
    out = subprocess.run(command, capture_output=True, check=True, text=True, env=environment).stdout
    codes = "\n".join(f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items())
    return f"{out.strip()}\n\n## Exit codes\n\n| code | means |\n|---|---|\n{codes}\n"


if __name__ == "__main__":
    PAGE.write_text(page())
