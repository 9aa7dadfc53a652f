"""What is said of a fit before any work."""

import pytest

from bladescan.base.errors import DataError
from bladescan.fitting.job import FitOptions, fit


@pytest.mark.parametrize("name", ["ai_generated", "calibration"])
def test_a_list_of_what_is_gone_is_said_before_a_photograph_is_embedded(samples, name):
    def seen(n):
        raise AssertionError("a photograph was embedded")

    with pytest.raises(DataError, match="none of 2 can be read; the first, gone/a.png: not-found"):
        fit(samples, FitOptions(), **{name: ["gone/a.png", "gone/b.png"]}, seen=seen)
