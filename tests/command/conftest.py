"""What the tests of the command share."""

from tests.browser import browser, shown  # noqa: F401
from tests.ledger.remembered import filled  # noqa: F401
from tests.sources.stores import bucket, photos, proxy, s3  # noqa: F401
