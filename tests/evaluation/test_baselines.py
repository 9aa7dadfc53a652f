"""The baselines see what differs between files, and nothing where nothing differs."""

from __future__ import annotations

import numpy as np
import pytest

from bladescan.evaluation.baselines import BaselineFeatures, FileFacts, file_features, measure_baseline
from bladescan.evaluation.report import PHOTOGRAPHS


def facts(rng: np.random.Generator, side: int, format: str = "JPEG") -> FileFacts:
    return FileFacts(int(rng.integers(10_000, 90_000)), side, side, format, (20.0, 25.0))


def test_the_baseline_finds_files_of_another_size_and_no_difference_where_there_is_none():
    rng = np.random.default_rng(0)
    cameras = [facts(rng, int(rng.integers(300, 4000))) for _ in range(60)]
    one_size = [facts(rng, 1024) for _ in range(60)]
    alike = [facts(rng, int(rng.integers(300, 4000))) for _ in range(60)]
    files = np.arange(60)
    sets = {PHOTOGRAPHS: cameras, "told": one_size, "same": alike}
    found = measure_baseline(
        {name: BaselineFeatures(file_features(part), files) for name, part in sets.items()}
    )
    told, same = found.generators.values()
    assert told.low > 0.95
    assert same.low < 0.5 < same.high + 0.1
    assert found.mean.value == pytest.approx((told.value + same.value) / 2)
    assert same.low < found.mean.low < found.mean.value < found.mean.high < told.high


def test_the_baseline_judges_no_file_by_another_of_its_faces():
    """Noise that is shared within a file could be learned by heart, were files split between folds."""
    rng = np.random.default_rng(1)
    files = np.repeat(np.arange(30), 10)
    ours, theirs = (np.repeat(rng.normal(size=(30, 2)), 10, axis=0) for _ in range(2))
    sets = {PHOTOGRAPHS: BaselineFeatures(ours, files), "x": BaselineFeatures(theirs, files)}
    assert measure_baseline(sets, n_draws=2).mean.value < 0.75


def test_the_baseline_does_not_see_the_make():
    jpeg = FileFacts(1000, 10, 10, "JPEG", (9.0,), "Canon")
    assert np.array_equal(*file_features([jpeg, FileFacts(1000, 10, 10, "JPEG", (9.0,))]))
    assert not np.array_equal(*file_features([jpeg, FileFacts(1000, 10, 10, "PNG")]))
