"""Clocks that take turns, so that whatever else a machine does slows alike what is compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

Work = Callable[[], object]


def seconds(work: Work) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(works: Mapping[str, Work], rounds: int, uncounted: int = 1) -> dict[str, list[float]]:
    """Time every work once a round; the first rounds, in which caches fill, are not counted."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(uncounted + rounds):
        for name, work in works.items():
            took[name].append(seconds(work))
    return {name: times[uncounted:] for name, times in took.items()}


def best(works: Mapping[str, Work], rounds: int, uncounted: int = 1) -> dict[str, float]:
    """Time every work once a round, and give the seconds of each one's fastest."""
    return {name: min(times) for name, times in in_turns(works, rounds, uncounted).items()}
