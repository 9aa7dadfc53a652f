"""How many threads the fit of a head computes with: one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, and put the process back as it was.

    Sums then come out with the same bits whatever the number of cores, and threads that wait for each
    other on a busy machine do not make a fit ten times as long.
    """
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)
