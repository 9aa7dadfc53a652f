import signal

import pytest

from bladescan.base.exit_codes import ExitCode
from bladescan.base.interrupts import Interrupted, exit_code_of


def disguised() -> BaseException:
    try:
        try:
            raise Interrupted(signal.SIGTERM)
        except Interrupted as exc:
            raise ImportError("half of a module") from exc
    except ImportError as exc:
        return exc


@pytest.mark.parametrize(
    "exc,code",
    [
        (Interrupted(signal.SIGINT), ExitCode.INTERRUPTED),
        (Interrupted(signal.SIGTERM), ExitCode.TERMINATED),
        (disguised(), ExitCode.TERMINATED),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (BrokenPipeError(), ExitCode.CLEAN),
        (ValueError(), ExitCode.FAILED),
    ],
)
def test_an_exception_tells_the_exit_code(exc, code):
    assert exit_code_of(exc) is code
