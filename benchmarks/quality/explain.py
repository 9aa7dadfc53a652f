"""Whether the maps of --explain mean something: cover what they mark, and see how far the score moves.

    BLADESCAN_DATA=FOLDER python -m benchmarks.quality.explain [DETECTOR] [--faces N] [--pool evaluation]
    BLADESCAN_DATA=FOLDER python -m benchmarks.quality.explain --cost [N]

AI-generated faces that the detector flags, as many of each generator, are explained in several ways. Then
the window of 3 x 3 cells that a map marks is covered, with another fill than the map was made with, and so is
each of the 24 other windows of its size. `others` is the mean of those, `other face's` the fall where the
window that another face's map marks is covered: a map that only knew where faces are would do as well there.
The training pool is for choosing; on the evaluation pool only the way of --explain is measured.

`--cost` scans N photographs and N AI-generated pictures with and without --explain, by turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.pictures import RATE, Bench, bench_parser, open_bench
from benchmarks.tables import percent, say, table
from bladescan.detectors.calibration import clopper_pearson, photographic_scores
from bladescan.detectors.shipped import default_file
from bladescan.detectors.suspicion import suspicion, suspicion_threshold
from bladescan.scanning.occlusion import (
    GRID,
    N_COPIES,
    blurred,
    cell_map,
    cover,
    strongest_window,
    whole_windows,
    windows,
)
from bladescan.scanning.scan_options import ScanOptions
from bladescan.scanning.scanner import Scanner
from bladescan.scanning.scoring import score_in_batches

Crop = NDArray[np.uint8]
Falls = NDArray[np.float64]

N_RANDOM, N_COVERED = 98, 16


def mean_colour(crop: Crop) -> Crop:
    """The mean colour everywhere."""
    return np.broadcast_to(np.rint(crop.mean((0, 1))).astype(np.uint8), crop.shape)


def shuffled(crop: Crop) -> Crop:
    """The crop's own pixels, in random places."""
    pixels = crop.reshape(-1, 3)
    return pixels[np.random.default_rng(2).permutation(len(pixels))].reshape(crop.shape)


def noise(crop: Crop) -> Crop:
    """Grain around the mean colour, with a standard deviation of 25 grey levels."""
    grain = np.random.default_rng(1).normal(0.0, 25.0, crop.shape)
    return np.clip(crop.mean((0, 1)) + grain, 0, 255).astype(np.uint8)


FILLS: dict[str, Callable[[Crop], Crop]] = {
    "blur": blurred,
    "mean colour": mean_colour,
    "shuffled pixels": shuffled,
    "noise": noise,
}


def single_cells() -> NDArray[np.bool_]:
    """Each cell alone."""
    return np.eye(N_COPIES, dtype=bool).reshape(N_COPIES, GRID, GRID)


def random_cells() -> NDArray[np.bool_]:
    """A third of the cells, drawn anew for each copy."""
    rng = np.random.default_rng(7)
    drawn = [np.isin(np.arange(N_COPIES), rng.permutation(N_COPIES)[:N_COVERED]) for _ in range(N_RANDOM)]
    return np.stack(drawn).reshape(N_RANDOM, GRID, GRID)


def averaged(falls: Falls, covered: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share each fall among the cells covered, and average over the copies that cover a cell."""
    cells = covered.reshape(len(covered), -1).astype(np.float64)
    found: NDArray[np.float64] = (cells.T @ (falls / cells.sum(1)) / cells.sum(0)).reshape(GRID, GRID)
    return found


def regressed(falls: Falls, covered: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Ridge regression of the falls on the cells covered, with an intercept."""
    cells = covered.reshape(len(covered), -1).astype(np.float64)
    cells = cells - cells.mean(0)
    solved = np.linalg.solve(cells.T @ cells + 3.0 * np.eye(N_COPIES), cells.T @ (falls - falls.mean()))
    found: NDArray[np.float64] = solved.reshape(GRID, GRID)
    return found


class Method(NamedTuple):
    """One way to explain: what is covered, with what, and which window follows from the falls."""

    name: str
    fill: str
    covered: Callable[[], NDArray[np.bool_]]
    marks: Callable[[Falls, NDArray[np.bool_]], int]


CHOSEN = Method("windows, solved (--explain)", "blur", windows, lambda f, c: strongest_window(cell_map(f)))
METHODS = (
    Method("cells one by one", "blur", single_cells, lambda f, c: strongest_window(averaged(f, c))),
    Method("windows, averaged", "blur", windows, lambda f, c: strongest_window(averaged(f, c))),
    Method("the window of the largest fall", "blur", windows, lambda f, c: _largest(f)),
    CHOSEN,
    Method("windows, solved", "mean colour", windows, lambda f, c: strongest_window(cell_map(f))),
    Method("random cells, regressed", "blur", random_cells, lambda f, c: strongest_window(regressed(f, c))),
)


def _largest(falls: Falls) -> int:
    whole = whole_windows()
    return int(whole[np.argmax(falls[whole])])


class Scoring:
    """Scores of changed copies of the chosen faces by the head that decides."""

    def __init__(self, bench: Bench) -> None:
        head = bench.manifest.default_head
        assert head is not None
        self.bench, self.head = bench, head
        self.threshold = suspicion_threshold(bench.manifest.heads[head], head, RATE)

    def scores(self, crops: Crop) -> Falls:
        """Scores of crops, higher is more AI-generated."""
        found = score_in_batches(self.bench.backend, np.ascontiguousarray(crops), 8)
        assert found is not None
        return suspicion(photographic_scores(found, self.head), self.head)

    def falls(self, crop: Crop, score: float, fill: str, covered: NDArray[np.bool_]) -> Falls:
        """How far the score of one crop falls when cells are covered."""
        return score - self.scores(cover(crop, FILLS[fill](crop), covered))


def flagged_faces(scoring: Scoring, pool: str, n: int) -> tuple[Crop, Falls]:
    """Flagged faces, as many of each generator, spread over its files; also their scores."""
    groups = getattr(scoring.bench.collection, {"training": "trained", "evaluation": "generated"}[pool])
    crops, scores = [], []
    for name, cut in scoring.bench.cut(groups).items():
        found = scoring.scores(cut.crops)
        flagged = np.flatnonzero(found > scoring.threshold)
        wanted = -(-n // len(groups))
        chosen = flagged[np.unique(np.linspace(0, len(flagged) - 1, min(wanted, len(flagged))).astype(int))]
        say(f"{name}: {len(flagged)} of {len(found)} flagged, {len(chosen)} taken")
        crops.append(cut.crops[chosen])
        scores.append(found[chosen])
    return np.concatenate(crops)[:n], np.concatenate(scores)[:n]


def rows(scoring: Scoring, methods: Sequence[Method], crops: Crop, scores: Falls) -> list[list[str]]:
    """A row for each method and each fill that it was not made with."""
    whole = windows()[whole_windows()]
    fills = [fill for fill in FILLS if any(fill != method.fill for method in methods)]
    tested = {fill: _all_falls(scoring, crops, scores, fill, whole) for fill in fills}
    made: dict[tuple[str, str], Falls] = {}
    found = []
    for method in methods:
        covered = method.covered()
        key = method.fill, method.covered.__name__
        if key not in made:
            made[key] = _all_falls(scoring, crops, scores, method.fill, covered)
        marked = np.array([method.marks(falls, covered) for falls in made[key]])
        for fill, falls in tested.items():
            if fill != method.fill:
                cells = _row(falls, np.searchsorted(whole_windows(), marked), scores, scoring.threshold)
                found.append([method.name, method.fill, str(len(covered)), fill, *cells])
    return found


def _all_falls(
    scoring: Scoring, crops: Crop, scores: Falls, fill: str, covered: NDArray[np.bool_]
) -> NDArray[np.float64]:
    say(f"{len(covered)} copies of each face, covered with {fill}")
    return np.stack(
        [scoring.falls(crop, float(s), fill, covered) for crop, s in zip(crops, scores, strict=True)]
    )


def _row(falls: Falls, marked: NDArray[np.intp], scores: Falls, threshold: float) -> list[str]:
    faces, n = np.arange(len(falls)), falls.shape[1]
    top = falls[faces, marked]
    others = (falls.sum(1) - top) / (n - 1)
    others_face = falls[faces, np.roll(marked, 1)]
    more = top > others
    lost = scores[:, None] - falls <= threshold
    lost_top = lost[faces, marked]
    lost_others = (lost.sum(1) - lost_top) / (n - 1)
    return [
        f"{top.mean():.2f}",
        f"{others.mean():.2f}",
        f"{top.mean() / others.mean():.2f}",
        f"{others_face.mean():.2f}",
        _share(int(more.sum()), len(more)),
        f"{lost_top.mean():.0%}",
        f"{lost_others.mean():.0%}",
    ]


def _share(count: int, n: int) -> str:
    return percent((count / n, *clopper_pearson(count, n)))


def cost(bench: Bench, n: int) -> None:
    """Print how much longer scans take that explain."""
    plain, telling = (ScanOptions(bench.detector, explain=explain) for explain in (False, True))
    for kind, groups in (
        ("photographs", bench.collection.held_out),
        ("AI-generated", bench.collection.trained),
    ):
        files = [str(path) for paths in groups.values() for path in paths]
        chosen = files[:: max(1, len(files) // n)][:n]
        with Scanner(plain) as without, Scanner(telling) as explaining:
            seconds = [(_seconds(without, chosen), _seconds(explaining, chosen)) for _ in range(3)]
            faces = [face for record in explaining.scan(chosen) for face in record.faces]
        told = sum(face.explanation is not None for face in faces)
        ratio = float(np.median([with_it / plainly for plainly, with_it in seconds]))
        print(f"{kind}: {told} of {len(faces)} faces explained; the scan takes {ratio:.1f} times as long")


def _seconds(scanner: Scanner, files: Sequence[str]) -> float:
    started = time.perf_counter()
    for _ in scanner.scan(files):
        pass
    return time.perf_counter() - started


HEADER = (
    *("method", "made with", "runs", "tested with", "marked", "others", "ratio", "other face's"),
    *("faces where marked falls more than others, %", "flag lost: marked", "others"),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = bench_parser(__spec__, __doc__)
    options.add_argument("--faces", type=int, default=100, metavar="N")
    options.add_argument("--pool", choices=("training", "evaluation"), default="training")
    options.add_argument("--cost", type=int, nargs="?", const=60, metavar="N")
    asked = options.parse_args(argv)
    asked.detector = asked.detector or default_file()
    if asked.cost is not None:
        cost(open_bench(asked), asked.cost)
        return
    scoring = Scoring(open_bench(asked))
    crops, scores = flagged_faces(scoring, asked.pool, asked.faces)
    print(f"{len(crops)} flagged faces, {scoring.bench.manifest.name}, {scoring.head} head\n")
    methods = METHODS if asked.pool == "training" else (CHOSEN,)
    print(table(HEADER, rows(scoring, methods, crops, scores)))


if __name__ == "__main__":
    main()
