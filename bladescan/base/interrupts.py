"""What ends a command from outside, and the exit code that it leads to. It installs no signal handler."""

from __future__ import annotations

import signal

from bladescan.base.exit_codes import ExitCode


class Interrupted(BaseException):
    """SIGHUP, SIGINT or SIGTERM, on its way out of the command.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = ExitCode(128 + number)


def exit_code_of(exc: BaseException) -> ExitCode:
    """Tell the exit code of a command that an exception leaves.

    An interruption may come out as something else: an import that it broke off is an ImportError.
    """
    link: BaseException | None = exc
    while link is not None:
        if isinstance(link, Interrupted):
            return link.exit_code
        if isinstance(link, KeyboardInterrupt):
            return ExitCode.INTERRUPTED
        link = link.__cause__ or link.__context__
    return ExitCode.CLEAN if isinstance(exc, BrokenPipeError) else ExitCode.FAILED
