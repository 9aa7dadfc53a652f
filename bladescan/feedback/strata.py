"""Parts of a scan that reviewers looked into alike: by the verdict, and by the score.

People look at the most suspicious faces first, so shares of what they looked at are no shares of the scan.
Within a part, those looked at are taken for a random sample of it.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.feedback.scanned_faces import SIDES, Label, ScannedFaces

MOST_BANDS = 5
LEAST_FACES = 10
"""Of a band: with fewer there is nothing to tell bands apart by."""
_CHI_SQUARED = (0.0, 3.841, 5.991, 7.815, 9.488)
"""Of 0 to 4 degrees of freedom, exceeded by chance in one case of twenty."""


class ScoreStratum(NamedTuple):
    """One part of a scan.

    Attributes:
        side: place in `SIDES`: what the scan said of its faces.
        low, high: scores of the least and the most suspicious.
        n: faces.
        n_photographic, n_ai_generated, n_unsure: of them, those that reviewers decided so.
    """

    side: int
    low: float
    high: float
    n: int
    n_photographic: int
    n_ai_generated: int
    n_unsure: int

    @property
    def n_sure(self) -> int:
        """Faces of which reviewers know what they are."""
        return self.n_photographic + self.n_ai_generated

    @property
    def density(self) -> float:
        """Share of its faces that reviewers could tell."""
        return self.n_sure / self.n


class Strata(NamedTuple):
    """Strata and what is in them: ``of[i]`` is the number of the stratum of face i, ``[n]``."""

    strata: list[ScoreStratum]
    of: NDArray[np.int64]


def score_bands(faces: ScannedFaces) -> Strata:
    """Cut each verdict into bands of scores with about equally many faces, the most suspicious first."""
    of = np.full(len(faces), -1, np.int64)
    n_bands = 0
    for side in range(len(SIDES)):
        members = np.flatnonzero(faces.sides == side)
        if not len(members):
            continue
        n_here = max(1, min(MOST_BANDS, len(members) // LEAST_FACES))
        edges = np.unique(np.quantile(-faces.scores[members], np.arange(1, n_here) / n_here))
        place = np.searchsorted(edges, -faces.scores[members], side="left")
        _, place = np.unique(place, return_inverse=True)  # ties may leave a band empty
        of[members] = n_bands + place
        n_bands += int(place.max()) + 1
    return _counted(faces, of)


def alike(faces: ScannedFaces, bands: Strata) -> Strata:
    """Join neighbouring bands of one verdict that were looked into alike, for narrower intervals.

    The shares looked at may differ by chance (Pearson's chi-squared test at 5%), as those of a random sample
    do; those of somebody who begins with the most suspicious do not.
    """
    number = np.zeros(len(bands.strata), np.int64)
    begun = 0
    for index in range(1, len(bands.strata)):
        part = [bands.strata[each] for each in range(begun, index + 1)]
        if part[0].side != part[-1].side or not _are_alike(part):
            begun = index
        number[index] = number[index - 1] + (begun == index)
    return _counted(faces, number[bands.of] if len(faces) else bands.of)


def _are_alike(part: list[ScoreStratum]) -> bool:
    n = np.array([stratum.n for stratum in part])
    sure = np.array([stratum.n_sure for stratum in part])
    share = sure.sum() / n.sum()
    variance = n * share * (1 - share)
    return bool(
        ((sure - n * share) ** 2).sum() == 0
        or ((sure - n * share) ** 2 / variance).sum() <= _CHI_SQUARED[len(part) - 1]
    )


def _counted(faces: ScannedFaces, of: NDArray[np.int64]) -> Strata:
    found = []
    for index in range(int(of.max()) + 1 if len(of) else 0):
        members = of == index
        scores, labels = faces.scores[members], faces.labels[members]
        counts = np.bincount(labels, minlength=len(Label))
        found.append(
            ScoreStratum(
                int(faces.sides[members][0]),
                float(scores.min()),
                float(scores.max()),
                int(members.sum()),
                int(counts[Label.PHOTOGRAPHIC]),
                int(counts[Label.AI_GENERATED]),
                int(counts[Label.UNSURE]),
            )
        )
    return Strata(found, of)


def representative(faces: ScannedFaces, strata: Strata) -> set[tuple[str, int]] | None:
    """Choose decided faces that stand for the scan as a whole: of each stratum the same share of its faces.

    Which ones is decided by a digest of their content, so that it is the same the next time.

    Returns:
        Keys of their decisions; None if a stratum was not looked into.
    """
    if not strata.strata or not all(stratum.n_sure for stratum in strata.strata):
        return None
    share = min(stratum.density for stratum in strata.strata)
    chosen: set[tuple[str, int]] = set()
    for index, stratum in enumerate(strata.strata):
        members = np.flatnonzero((strata.of == index) & faces.is_sure)
        keys = sorted((faces.keys[int(each)] for each in members), key=_digest)
        chosen.update(keys[: int(share * stratum.n + 1e-9)])
    return chosen


def _digest(key: tuple[str, int]) -> bytes:
    return hashlib.sha256(repr(key).encode("utf-8", "surrogateescape")).digest()
