from __future__ import annotations

import numpy as np
import pytest

from bladescan.faces.suppression import suppress


@pytest.mark.parametrize("of_smaller", [False, True])
def test_suppression_is_the_naive_loop(of_smaller):
    low = np.random.default_rng(1).uniform(0, 60, (80, 2))
    corners = np.concatenate([low, low + np.random.default_rng(2).uniform(5, 40, (80, 2))], axis=1)
    kept: list[int] = []
    for i, a in enumerate(corners):
        for b in corners[kept]:
            common = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
            areas = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
            if common > 0.4 * (min(areas) if of_smaller else sum(areas) - common):
                break
        else:
            kept.append(i)
    assert suppress(corners, 0.4, of_smaller=of_smaller) == kept
    assert 1 < len(kept) < 80
