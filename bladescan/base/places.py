"""Places in pictures as shares of their width and height, which the same face keeps when it is scaled."""

from __future__ import annotations

Place = tuple[float, float, float, float]
"""Left, top, right and bottom of a box."""
LEAST_OVERLAP = 0.5
"""Of two boxes, for their faces to be one."""


def overlap(one: Place, other: Place) -> float:
    """Compute the area that two boxes share over the area that they cover."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = _area(one) + _area(other) - width * height
    return width * height / both if both > 0 else 0.0


def are_one(one: Place | None, other: Place | None) -> bool:
    """Tell whether two boxes are of one face; where neither is known, the pictures are the faces."""
    if one is None or other is None:
        return one is other
    return overlap(one, other) >= LEAST_OVERLAP


def _area(place: Place) -> float:
    return (place[2] - place[0]) * (place[3] - place[1])
