"""The exit codes of the command, which scripts may rely on."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command answers its shell."""

    CLEAN = 0
    """Every source was scanned, nothing flagged."""
    FLAGGED = 1
    """Every source was scanned, something flagged."""
    FAILED = 2
    """The command could not run: usage, detector, device, output."""
    INCOMPLETE = 3
    """It ran, but some sources could not be scanned, or there were none: counts are incomplete."""
    INTERRUPTED = 130
    """Ctrl-C; what was finished is kept."""
    TERMINATED = 143
    """SIGTERM; what was finished is kept."""
