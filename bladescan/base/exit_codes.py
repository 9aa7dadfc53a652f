"""The exit codes of the command, which scripts may rely on."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit code of the command; `MEANINGS` explains each."""

    CLEAN = 0
    FLAGGED = 1
    FAILED = 2
    INCOMPLETE = 3
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS = {
    ExitCode.CLEAN: "every source was scanned, nothing flagged",
    ExitCode.FLAGGED: "every source was scanned, something flagged",
    ExitCode.FAILED: "the command could not run: usage, detector, device, output",
    ExitCode.INCOMPLETE: "it ran, but some sources could not be scanned, or there were none",
    ExitCode.INTERRUPTED: "Ctrl-C; what was finished is kept",
    ExitCode.TERMINATED: "SIGTERM; what was finished is kept",
}
