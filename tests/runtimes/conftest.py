"""What the tests of runtimes share."""

from tests.backends.fake_tensorrt import engine, fake  # noqa: F401
