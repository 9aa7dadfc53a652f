"""What the tests of pages share."""

from tests.browser import browser, shown  # noqa: F401
