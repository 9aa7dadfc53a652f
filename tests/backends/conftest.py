"""What the tests of backends share."""

from tests.backends.detectors import files  # noqa: F401
from tests.backends.fake_tensorrt import engine, fake  # noqa: F401
