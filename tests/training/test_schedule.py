"""The schedule: a rate that rises, then falls to its end."""

import pytest

from bladescan.tasks.recipe import InnerRecipe
from bladescan.training.schedule import learning_rate


def test_the_learning_rate_rises_then_falls_to_its_end():
    inner = InnerRecipe(lr=1.0, final_lr=0.1, warmup=0.1)
    course = [learning_rate(k, 100, inner) for k in range(101)]
    assert course[0] == pytest.approx(0.1) and max(course) == course[10] == 1.0
    assert course[55] == pytest.approx(0.55) and course[100] == pytest.approx(0.1)
