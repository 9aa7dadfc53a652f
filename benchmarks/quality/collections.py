"""What each way to set thresholds flags of a collection of photographs that it has not seen.

    BLADESCAN_DATA=... python -m benchmarks.quality.collections --cache FOLDER > collections.md

Every collection of the training pool is left out in turn: a threshold of the others, then the share of its
faces that is flagged. The ways are those of ``bladescan calibrate --by``: all photographs alike, each folder
alike, the strictest folder; and the strictest of two kinds, retouched stock portraits and all others, as the
shipped detectors have it. ``fast`` and ``cascade`` are measured on the collections that nothing learned from;
they have learned the AI-generated faces of the pool, so what they find of those says how thresholds compare,
not how good they are. For ``accurate`` a head is fitted again without each generator, and without each
collection that the shipped one learned from: all are then strangers, and so is every AI-generated face.

*Flagged*: mean over the collections, each counted once, with an interval by drawing collections anew.
*Worst*: of those with twenty faces or more. *Above*: collections of which more than the rate is flagged.

Scores are computed once and kept in the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.detectors.accurate import STRENGTH, fit
from benchmarks.detectors.faces import CALIBRATION_SOURCES, CutFace, cut_pool, matched_view, scan_view
from benchmarks.tables import parser, percent, say, table
from bladescan.base.errors import DataError
from bladescan.detectors.calibration import needed_photographs, p_values
from bladescan.detectors.collections import UNITS, calibrate_by, check_unit, find_collections
from bladescan.detectors.manifest import CalibratedHead
from bladescan.detectors.measured import LEAST_FACES
from bladescan.detectors.shipped import named_detector
from bladescan.detectors.suspicion import suspicion
from bladescan.evaluation.report import Interval
from bladescan.runtimes.onnx_session import open_session
from bladescan.runtimes.registry import open_detector

RATES = (0.05, 0.1)
SHIPPED = ("fast", "cascade")
STUDIO, STRICTEST_KIND = "interfaces_cc0", "strictest kind"
"""Retouched stock portraits; the shipped thresholds are the strictest of these and of all others."""
BATCH = 32
MOST_GENERATED, MOST_EMBEDDED = 60, 40
"""Faces of one group at most, to save time: of generators, and of each group that ``accurate`` embeds."""


class Scored(NamedTuple):
    """What one detector says of a pool: suspicion of photographs and of AI-generated faces.

    Attributes:
        name: of the detector, for the table.
        photographs, collections: ``[n]``.
        generated: ``[m]``.
    """

    name: str
    photographs: NDArray[np.float64]
    collections: NDArray[np.str_]
    generated: NDArray[np.float64]


def shipped(name: str, faces: Sequence[CutFace]) -> Scored:
    """Score what a shipped detector has not learned, and the AI-generated faces that it has."""
    opened = open_detector(named_detector(name))
    ours = [face for face in faces if face.calibrates]
    theirs = at_most([face for face in faces if face.ai_generated], MOST_GENERATED)
    parts = []
    for some in (ours, theirs):
        crops = np.stack([scan_view(face) for face in some])
        starts = range(0, len(crops), BATCH)
        found = [opened.backend.score(crops[i : i + BATCH]).p_ai_generated for i in starts]
        parts.append(suspicion(-np.concatenate(found).astype(np.float64), "binary"))
    return Scored(name, parts[0], np.asarray([face.group for face in ours]), parts[1])


def at_most(faces: Sequence[CutFace], n: int) -> list[CutFace]:
    """Keep every so manieth face of each group, at most n of one."""
    groups = np.asarray([face.group for face in faces])
    kept: list[int] = []
    for group in np.unique(groups):
        of = np.flatnonzero(groups == group)
        kept += np.unique(of[np.linspace(0, len(of) - 1, min(n, len(of))).astype(int)]).tolist()
    return [faces[i] for i in sorted(kept)]


def embedded(faces: Sequence[CutFace]) -> NDArray[np.float32]:
    """Embed faces by the encoder of ``accurate``, all brought to one size and compression."""
    path = named_detector("accurate")
    assert path is not None
    session = open_session(path.read_bytes(), threads=0)
    rows = []
    for index, face in enumerate(faces):
        rows.append(session.run(["embedding"], {"crops": matched_view(face)[None]})[0])
        if index % 100 == 0:
            say(f"{index} of {len(faces)} faces")
    return np.concatenate(rows)


def refitted(faces: Sequence[CutFace], features: NDArray[np.float32]) -> list[Scored]:
    """Fit the head of ``accurate`` without each generator or collection, and score what was left out."""
    groups = np.asarray([face.group for face in faces])
    generated = np.asarray([face.ai_generated for face in faces])
    kept = np.asarray([not face.calibrates for face in faces])
    learned = [group for group in np.unique(groups[~generated]) if group not in CALIBRATION_SOURCES]
    found = []
    for generator in np.unique(groups[generated]):
        scores = np.full(len(faces), np.nan)
        for left_out in ("", *learned):
            used = kept & (groups != generator) & (groups != left_out)
            head = fit(features[used], generated[used], groups[used].tolist(), STRENGTH)
            asked = groups == left_out if left_out else ~kept | (groups == generator)
            scores[asked] = features[asked] @ head.weights + head.bias
        of = groups == generator
        name = f"accurate, fitted without {generator}"
        found.append(Scored(name, scores[~generated], groups[~generated], scores[of]))
    return found


def kept_in(path: Path, compute: Callable[[], Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Take arrays from a file, or compute them and keep them there."""
    if not path.exists():
        say(path.stem)
        np.savez(path, **compute())
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def everything(folder: Path, names: Sequence[str]) -> list[Scored]:
    """Score, or take what was scored before."""
    folder.mkdir(parents=True, exist_ok=True)
    faces = cut_pool()
    found = []
    for name in names:
        kept = kept_in(folder / f"{name}.npz", lambda name=name: shipped(name, faces)._asdict())
        found.append(Scored(name, kept["photographs"], kept["collections"], kept["generated"]))
    few = at_most(faces, MOST_EMBEDDED)
    features = kept_in(folder / "embeddings.npz", lambda: {"features": embedded(few)})["features"]
    return [*found, *refitted(few, features)]


class Left(NamedTuple):
    """What thresholds flag that were set without a collection.

    Attributes:
        flagged: share of the collection's faces, ``[K]``.
        sizes: of the collections, ``[K]``.
        found: share of the AI-generated faces, ``[K]``.
    """

    flagged: NDArray[np.float64]
    sizes: NDArray[np.intp]
    found: NDArray[np.float64]


def left_out(scored: Scored, way: str, rate: float) -> Left | None:
    """Leave each collection out; None if the others are too few for the rate."""
    rows = []
    for name in np.unique(scored.collections):
        inside = scored.collections == name
        try:
            head = calibrated(way, -scored.photographs[~inside], scored.collections[~inside], rate)
        except DataError:
            return None
        ours, theirs = (
            float((p_values(head, -scores) <= rate).mean())
            for scores in (scored.photographs[inside], scored.generated)
        )
        rows.append((ours, int(inside.sum()), theirs))
    flagged, sizes, found = zip(*rows, strict=True)
    return Left(np.asarray(flagged), np.asarray(sizes), np.asarray(found))


def calibrated(
    way: str, scores: NDArray[np.float64], collections: NDArray[np.str_], rate: float
) -> CalibratedHead:
    """Calibrate in one way on photographic scores ``[n]`` of collections ``[n]``."""
    if way == STRICTEST_KIND:  # of two, unless the portraits themselves are left out
        way = "strictest-folder" if STUDIO in collections else "file"
        collections = np.where(collections == STUDIO, STUDIO, "all others")
    by = check_unit(way)
    return calibrate_by(
        by, scores, None if by == "file" else find_collections(by, collections.tolist(), rate)
    )


def row(name: str, several: Sequence[Scored], way: str, rate: float) -> list[str]:
    """A row of the table, the mean over several detectors; dashes for a rate that cannot be had."""
    k = len(np.unique(several[0].collections))
    begin = [name, str(k), f"{rate:.0%}", way]
    left = [found for one in several if (found := left_out(one, way, rate)) is not None]
    if len(left) < len(several):
        return [*begin, f"needs {needed_photographs(rate)} collections", "-", "-", "-"]
    flagged = np.mean([one.flagged for one in left], axis=0)
    rng = np.random.default_rng(0)
    drawn = flagged[rng.integers(0, k, (10_000, k))].mean(1)
    mean = Interval(float(flagged.mean()), *np.quantile(drawn, (0.025, 0.975)).tolist())
    worst = flagged[left[0].sizes >= LEAST_FACES].max()
    over = int((flagged > rate).sum())
    found = np.mean([one.found for one in left])
    return [*begin, percent(mean), f"{100 * worst:.0f}", f"{over} of {k}", f"{100 * found:.0f}"]


HEADER = (
    "detector",
    "collections",
    "asked",
    "thresholds by",
    "flagged",
    "worst",
    "above",
    "AI-generated found",
)


def main() -> None:
    options = parser(__spec__, __doc__)
    options.add_argument("--cache", type=Path, required=True, metavar="FOLDER", help="for faces and scores")
    given = options.parse_args()
    scored = everything(given.cache, SHIPPED)
    kinds = {one.name: [one] for one in scored[: len(SHIPPED)]}
    kinds["accurate, fitted again"] = scored[len(SHIPPED) :]
    rows = []
    for name, several in kinds.items():
        ways = [*UNITS, *([STRICTEST_KIND] if STUDIO in several[0].collections else [])]
        rows += [row(name, several, way, rate) for rate in RATES for way in ways]
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
