"""Whether a verdict outlasts harmless changes of its picture: who is looked at again, and what follows.

A face whose p-value lies within a factor of `BAND` of the rate that decides is scored in several views
(`bladescan.faces.views`). If less than a share of them lie on the face's side of the threshold, it is unsure.
"""

from __future__ import annotations

from dataclasses import dataclass

from bladescan.base.errors import UsageError

BAND = 4.0
LIMIT = 0.75
"""Default: with six views, two that disagree make a face unsure."""


@dataclass(frozen=True, slots=True)
class Stability:
    """How sure a verdict must be.

    Attributes:
        limit: least share of views that must agree, in (0, 1].
        highest: p-value up to which faces are looked at; None where the rate that decides is known already.

    Raises:
        UsageError: the limit is out of range.
    """

    limit: float = LIMIT
    highest: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.limit <= 1.0:
            raise UsageError(f"--stability-limit must lie above 0 and be at most 1, got {self.limit:g}")

    def looks_at(self, p_smooth: float, rate: float) -> bool:
        """Tell whether the views of a face are scored."""
        if self.highest is not None:
            return p_smooth <= self.highest
        return is_near(p_smooth, rate)


def is_near(p_smooth: float, rate: float) -> bool:
    """Tell whether a p-value lies in the band around a rate."""
    return rate / BAND <= p_smooth <= rate * BAND


def agreement(p_value: float, views: tuple[float, ...], rate: float) -> float:
    """Compute the share of views that lie on the same side of the rate as the face."""
    return sum((view <= rate) == (p_value <= rate) for view in views) / len(views)
