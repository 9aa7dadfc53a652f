"""How far faces are from the photographs of a calibration by their embedding, and what sketches lose.

    BLADESCAN_DATA=FOLDER python -m benchmarks.quality.neighbours [DETECTOR]

The photographs held out for calibration are kept as sketches, as `bladescan calibrate` keeps them. Then other
photographs and AI-generated faces are asked for their nearest: how far it is, and how many of the kept
photographs are as far from theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.pictures import Bench, bench_parser, join, open_bench, share_of
from benchmarks.tables import percent, table
from bladescan.detectors.neighbours import Neighbourhood, make_neighbours
from bladescan.detectors.shipped import default_file

FAR = 0.05
"""A face is far if at most this share of the photographs is as far from theirs."""


def exact_angles(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Angles between embeddings in degrees, ``[n_some, n_others]``."""
    a, b = (x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True) for x in (some, others))
    return np.degrees(np.arccos(np.clip(a @ b.T, -1.0, 1.0)))


def sketch_error(embeddings: NDArray[np.float32]) -> float:
    """How far the angles of neighbours in the list are from the exact ones, root of the mean square."""
    pairs = [
        (
            Neighbourhood(make_neighbours(one[None]), where="").nearest(other, 1)[0],
            exact_angles(one[None], other[None]),
        )
        for one, other in zip(embeddings, embeddings[1:], strict=False)
    ]
    return float(np.sqrt(np.mean([(sketched - exact[0, 0]) ** 2 for sketched, exact in pairs])))


def row(name: str, embeddings: NDArray[np.float32], around: Neighbourhood) -> list[str]:
    """A row of the table."""
    nearest = np.array([around.nearest(one, 1)[0] for one in embeddings])
    far = np.array([around.n_as_far(angle) for angle in nearest]) <= FAR * len(around.own)
    return [name, str(len(embeddings)), f"{np.median(nearest):.0f}", percent(share_of(far))]


def rows(bench: Bench, kept: NDArray[np.float32], around: Neighbourhood) -> list[list[str]]:
    """A row for each set of photographs and each generator."""
    own = f"{np.median(around.own):.0f}"
    found = [["photographs of the calibration, among themselves", str(len(kept)), own, "-"]]
    for kind, groups in (
        ("photographs", bench.collection.photographic),
        ("AI-generated", bench.collection.trained),
    ):
        for name, cut in bench.cut(groups).items():
            found.append(row(f"{kind}: {name}", bench.score(cut.crops).embedding, around))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    asked = bench_parser(__spec__, __doc__).parse_args(argv)
    asked.detector = asked.detector or default_file()
    bench = open_bench(asked)
    kept = bench.score(join(bench.cut(bench.collection.held_out).values()).crops).embedding
    around = Neighbourhood(make_neighbours(kept), where=bench.manifest.name)
    print(f"{bench.manifest.name}, {len(kept)} photographs kept\n")
    print(table(["faces", "n", "nearest, degrees", "far, %"], rows(bench, kept, around)))
    print(f"\nangles by sketches differ from exact ones by {sketch_error(kept):.1f} degrees (RMS)")


if __name__ == "__main__":
    main()
