"""A terminal for tests: the real command on a pseudo-terminal, and what is on its screen in the end."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


def on_terminal(
    *arguments: str | Path,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    to_terminal: str = "both",
) -> tuple[int, str]:
    """The exit code of the command, and all that it wrote to the terminal.

    ``to_terminal`` says what goes there: both streams, or ``stderr`` alone.
    """
    ours, theirs = pty.openpty()
    environment = dict(os.environ) | {"COLUMNS": "100", "TERM": "xterm"} | (env or {})
    streams = {"stdin": theirs, "stderr": theirs}
    streams["stdout"] = theirs if to_terminal == "both" else subprocess.DEVNULL
    command = [sys.executable, "-m", "bladescan", *map(str, arguments)]
    with subprocess.Popen(command, cwd=cwd, env=environment, **streams) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            shown += part
            if not part:
                break
        code = process.wait(timeout=60)
    os.close(ours)
    return code, shown.decode()


def screen(written: str) -> list[str]:
    """The lines that are left on the screen: of escapes it knows those that move up and erase a line."""
    lines, row, column = [""], 0, 0
    for arguments, letter, end, text in _CONTROL.findall(written):
        if text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
        elif end == "\r":
            column = 0
        elif end == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif letter == "A":
            row = max(0, row - int(arguments or 1))
        elif letter == "K":
            lines[row] = ""
        else:
            assert letter in "mhl", f"unexpected escape: {arguments}{letter}"
    return lines
