"""What the tests of the command share."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from bladescan.command.app import app
from tests.browser import browser, shown  # noqa: F401
from tests.ledger.remembered import filled  # noqa: F401
from tests.sources.stores import bucket, photos, proxy, s3  # noqa: F401


@pytest.fixture(scope="session")
def in_process() -> Callable[..., Result]:
    """Run the command in this process: for what needs no process of its own, which takes seconds to start."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
