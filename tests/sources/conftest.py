"""What the tests of sources share."""

import pytest

from bladescan.sources import buckets, retries
from tests.sources.stores import aws, bucket, photos, proxy, s3  # noqa: F401


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """Each test has its own servers and waits almost no time before it tries again."""
    monkeypatch.setattr(retries, "BACKOFF_S", (0.01,) * 4)
    monkeypatch.setattr(retries, "TELL_EVERY_S", 0.0)
    buckets.close_stores()
    yield
    buckets.close_stores()
