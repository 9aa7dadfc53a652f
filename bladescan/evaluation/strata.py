"""Shares of the faces that a head flags, by the side of the face and by camera make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bladescan.evaluation.intervals import wilson_interval
from bladescan.evaluation.metrics import Sample
from bladescan.evaluation.report import UNKNOWN_MAKE, Stratum


def by_size(
    photographs: Sample,
    generated: Sample,
    photograph_sides: NDArray[np.float64],
    generated_sides: NDArray[np.float64],
) -> list[Stratum]:
    """Share out the flagged by terciles of the face side in pixels, over the faces of both classes.

    Args:
        photographs: the photographic faces.
        generated: the AI-generated faces.
        photograph_sides: of the former, in pixels of their images, ``[n]``.
        generated_sides: of the latter.
    """
    edges = np.unique(np.percentile(np.concatenate([photograph_sides, generated_sides]), [100 / 3, 200 / 3]))
    ours, theirs = (np.searchsorted(edges, sides) for sides in (photograph_sides, generated_sides))
    bounds = ["0", *(f"{edge:.0f}" for edge in edges)]
    names = [f"{low} to {high} px" for low, high in zip(bounds, bounds[1:], strict=False)]
    strata = [
        _stratum(name, photographs.flagged[ours == place], generated.flagged[theirs == place])
        for place, name in enumerate([*names, f"above {bounds[-1]} px"])
    ]
    return [stratum for stratum in strata if stratum.n_photographs + stratum.n_ai_generated]


def by_make(photographs: Sample, makes: Sequence[str | None]) -> list[Stratum]:
    """Share out the flagged photographs by camera make, most faces first, those without one last.

    Args:
        photographs: the faces.
        makes: of the camera of each, ``[n]``; None where it is unknown.
    """
    named = np.asarray([make or UNKNOWN_MAKE for make in makes], object)
    order = sorted(Counter(named).items(), key=lambda item: (item[0] == UNKNOWN_MAKE, -item[1]))
    nothing = np.zeros(0, np.bool_)
    return [_stratum(make, photographs.flagged[named == make], nothing) for make, _ in order]


def _stratum(name: str, ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> Stratum:
    false_alarm = wilson_interval(int(ours.sum()), len(ours))
    return Stratum(name, len(ours), len(theirs), false_alarm, wilson_interval(int(theirs.sum()), len(theirs)))
