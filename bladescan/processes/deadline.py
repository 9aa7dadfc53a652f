"""A deadline that counts only the time in which this process ran: not while it was suspended (Ctrl-Z)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import select

TICK_S = 0.25
"""How long is waited at once, and so what a suspension may cost."""
_LATE_S = 1.0
"""How much later than asked a process of a busy machine may wake up; who wakes later was suspended."""


class Deadline:
    """A time to come.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def next_tick(self) -> float:
        """Return how many seconds to wait now, at most; 0 after the deadline."""
        return max(0.0, min(TICK_S, self.left))

    def count(self, tick: float, passed: float) -> None:
        """Take off what was waited.

        Args:
            tick: seconds that were to be waited at most.
            passed: seconds that passed meanwhile.
        """
        self.left -= passed if passed <= tick + _LATE_S else tick

    def poll(self, poll: select.poll) -> bool:
        """Wait for a descriptor; say whether it was ready before the deadline."""
        while True:
            tick, began = self.next_tick(), time.monotonic()
            if poll.poll(tick * 1000):
                return True
            self.count(tick, time.monotonic() - began)
            if self.left <= 0:
                return False
