"""What the tests of exporting share."""

from tests.backends.fake_tensorrt import engine, fake  # noqa: F401
