"""What calibrating or fitting on one's own photographs gains where cameras and sites are new.

    BLADESCAN_DATA=... python -m benchmarks.quality.own_photographs [DETECTOR] [--at-most N] > own.md

A source takes the place of the user. It was never trained on and no head was fitted on it, but the shipped
detector may be calibrated on it; so *before* is the detector calibrated anew, on the others. *After*
knows one half of the source's files and is measured on the other half, then the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.pictures import (
    RATE,
    Bench,
    Cut,
    bench_parser,
    flagged,
    join,
    open_bench,
    sample,
    share_of,
)
from benchmarks.tables import cell, percent, table
from bladescan.base.records import Scores
from bladescan.detectors.calibration import (
    compress_calibration,
    hold_out,
    needed_photographs,
    photographic_scores,
)
from bladescan.detectors.manifest import CalibratedHead, HeadName
from bladescan.evaluation.metrics import Sample, compute_metrics
from bladescan.evaluation.report import Interval
from bladescan.heads.mixture_fit import fit_mixture

POPULATIONS: Mapping[str, tuple[str, ...]] = {
    "csvconf": ("csvconf",),
    "interfaces, advocates": ("interfaces_cc0", "ms_advocates"),
}
MATCHED_SIDE = 112
FIT_SHARE_HELD_OUT = 0.3
N_COPIES = 2
"""As `bladescan fit` has both where nothing else is asked."""
N_COMPONENTS = 3
"""At most so many: half a source is a hundred faces or fewer, and ten take minutes to try."""

Score = Callable[[Scores], NDArray[np.float64]]
"""A head: photographic scores of what a backend found."""


class Road(NamedTuple):
    """One way to a detector: a head and its calibration."""

    head: Score
    calibration: CalibratedHead


class Set(NamedTuple):
    """Some faces, and what the shipped detector says of them as found and matched."""

    cut: Cut
    found: Scores
    matched: Scores

    @property
    def files(self) -> NDArray[np.intp]:
        """Which file each face is of."""
        return self.cut.files

    def of(self, chosen: NDArray[np.bool_]) -> Set:
        """Some of the faces."""
        return Set(self.cut.of(chosen), _of(self.found, chosen), _of(self.matched, chosen))


def _of(scores: Scores, chosen: NDArray[np.bool_]) -> Scores:
    return Scores(*(None if part is None else part[chosen] for part in scores))  # type: ignore[arg-type]


def scored(bench: Bench, cut: Cut, side: int) -> Set:
    return Set(cut, bench.score(cut.crops), bench.score(cut.matched(side).crops))


def calibrated(scores: NDArray[np.float64]) -> CalibratedHead:
    return CalibratedHead(compress_calibration(scores), len(scores))


def shipped(name: HeadName) -> Score:
    return lambda scores: photographic_scores(scores, name)


def fit_on_own(bench: Bench, own: Set) -> Road:
    """`bladescan fit --components 3 --photos OWN`: a one-class head and its threshold from these alone."""
    held = hold_out(len(own.files), FIT_SHARE_HELD_OUT, np.random.default_rng(0), own.files)
    embeddings = bench.embed_with_copies(own.cut.crops[~held], N_COPIES)
    groups = np.tile(own.files[~held], 1 + N_COPIES)
    mixture = fit_mixture(
        embeddings, covariance_type="auto", n_components=N_COMPONENTS, groups=groups
    ).mixture

    def head(scores: Scores) -> NDArray[np.float64]:
        return mixture.score_samples(scores.embedding)

    return Road(head, calibrated(head(_of(own.found, held))))


def roads(bench: Bench, own: Set, others: Set) -> dict[str, Road]:
    """By what is asked of the user, each for the heads that it has."""
    found = {}
    for name in bench.heads:
        head = shipped(name)
        found[f"{name}, before"] = Road(head, calibrated(head(others.found)))
        if len(own.files) >= needed_photographs(RATE):
            found[f"{name}, calibrated on own"] = Road(head, calibrated(head(own.found)))
    if FIT_SHARE_HELD_OUT * len(own.files) > needed_photographs(RATE) + 1:
        found["one-class, fitted on own"] = fit_on_own(bench, own)
    return found


class Measured(NamedTuple):
    """One half under one road."""

    photographs: Sample
    found: Interval
    auc: Interval


def measured(road: Road, other_half: Set, generators: Mapping[str, Set]) -> Measured:
    ours = sample(road.head(other_half.found), other_half.files, road.calibration)
    theirs = [sample(road.head(one.found), one.files, road.calibration) for one in generators.values()]
    matched = {name: sample(road.head(one.matched), one.files) for name, one in generators.items()}
    area = compute_metrics(sample(road.head(other_half.matched), other_half.files), matched).mean.auc
    found = share_of(np.concatenate([one.flagged for one in theirs]))
    assert found is not None
    return Measured(ours, found, area)


def both_halves(bench: Bench, own: Set, others: Set, generators: Mapping[str, Set]) -> list[list[str]]:
    """Rows of the table for one population."""
    codes = np.random.default_rng(0).permutation(int(own.files.max()) + 1) % 2 == 0
    first = codes[own.files]
    found: dict[str, list[Measured]] = {}
    for known in (first, ~first):
        for name, road in roads(bench, own.of(known), others).items():
            found.setdefault(name, []).append(measured(road, own.of(~known), generators))
    return [[name, *_cells(halves)] for name, halves in found.items()]


def _cells(halves: list[Measured]) -> list[str]:
    photographs = Sample(
        *(np.concatenate(parts) for parts in zip(*(h.photographs for h in halves), strict=True))
    )
    found, area = (Interval(*np.mean(parts, axis=0)) for parts in zip(*(h[1:] for h in halves), strict=True))
    return [str(len(photographs.flagged)), flagged(photographs), percent(found), cell(area)]


def section(bench: Bench, side: int) -> str:
    """The table."""
    held_out = bench.cut(bench.collection.held_out)
    generators = {
        name: scored(bench, cut, side) for name, cut in bench.cut(bench.collection.generated).items()
    }
    rows = []
    for name, sources in POPULATIONS.items():
        own = scored(bench, join(held_out[s] for s in sources if s in held_out), side)
        others = scored(bench, join(cut for s, cut in held_out.items() if s not in sources), side)
        rows += [[name, *row] for row in both_halves(bench, own, others, generators)]
    header = ["photographs of", "head", "faces", "flagged, %", "found, %", "AUC"]
    n = sum(len(one.files) for one in generators.values())
    return "\n\n".join(
        [
            "### What your own photographs change",
            "A source plays the user whose cameras and site are new. *Before*: the shipped heads, their "
            "threshold set by the other collections that nothing learned from. *Calibrated on "
            "own*: the same heads, the threshold set by one half of the source. *Fitted on own*: "
            "`bladescan fit --components 3 --photos` that half, which makes a new one-class head on the "
            "shipped encoder. Measured on the other half, then with the halves exchanged, asked for 5%: "
            "photographs flagged (Clopper-Pearson over both halves), AI-generated faces of the evaluation "
            f"set found ({n}; mean of both), both as found; AUC against them, matched, mean over "
            "generators and of both halves, and so the ends of its interval.",
            table(header, rows),
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    print(section(open_bench(bench_parser(__spec__, __doc__).parse_args(argv)), MATCHED_SIDE))


if __name__ == "__main__":
    main()
