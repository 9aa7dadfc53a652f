"""The exit codes of the command, which scripts may rely on, and the rule by which a scan gets its own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit code of the command; `MEANINGS` explains each."""

    CLEAN = 0
    FLAGGED = 1
    FAILED = 2
    INCOMPLETE = 3
    FLAGGED_AND_INCOMPLETE = 4
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS = {
    ExitCode.CLEAN: "every source was scanned, nothing flagged",
    ExitCode.FLAGGED: "every source was scanned, something flagged, or `unsure`",
    ExitCode.FAILED: "the command could not run: usage, a path that does not exist, detector, device, output",
    ExitCode.INCOMPLETE: "nothing flagged, but some sources could not be scanned, or there were none",
    ExitCode.FLAGGED_AND_INCOMPLETE: "something flagged or `unsure`, and some sources could not be scanned",
    ExitCode.HUNG_UP: "SIGHUP, the terminal is gone; what was finished is kept",
    ExitCode.INTERRUPTED: "SIGINT, Ctrl-C; what was finished is kept",
    ExitCode.TERMINATED: "SIGTERM; what was finished is kept",
}


@dataclass(frozen=True, slots=True)
class ExitRule:
    """What makes the exit code of a scan other than 0.

    Attributes:
        flagged: something flagged, code 1.
        unreadable: a source that could not be read, code 3.
        allow_empty: nothing to scan is no failure; else it is code 3.
        unsure: something ``unsure``, code 1 as well: somebody has to look.
        reviewed: of what is flagged or unsure, only what is so after the decisions of reviewers.
    """

    flagged: bool = True
    unreadable: bool = True
    allow_empty: bool = False
    unsure: bool = True
    reviewed: bool = False

    def code(
        self, *, n_flagged: int, n_unsure: int, n_unreadable: int, is_empty: bool, is_stopped: bool = False
    ) -> ExitCode:
        """Tell the exit code of a scan.

        Args:
            n_flagged: images whose verdict is ``ai-generated``.
            n_unsure: images whose verdict is ``unsure``.
            n_unreadable: sources that could not be read.
            is_empty: there was nothing to scan.
            is_stopped: a limit ended it, so that sources are missing whatever the rule says.
        """
        incomplete = is_stopped or (self.unreadable and n_unreadable > 0)
        incomplete |= is_empty and not self.allow_empty
        if (self.flagged and n_flagged) or (self.unsure and n_unsure):
            return ExitCode.FLAGGED_AND_INCOMPLETE if incomplete else ExitCode.FLAGGED
        return ExitCode.INCOMPLETE if incomplete else ExitCode.CLEAN
