"""What the tests of the command share."""

from tests.sources.stores import bucket, photos, proxy, s3  # noqa: F401
