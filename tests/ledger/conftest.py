"""What the tests of the ledger share."""

from tests.ledger.remembered import filled  # noqa: F401
