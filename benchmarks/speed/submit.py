"""What `Backend.submit` costs on a CPU, where it computes at once: a plain call beside it, in turns.

    python -m benchmarks.speed.submit [--batch 8] [--rounds 60]

Every round scores the same two batches both ways; which way comes first alternates. The ratio is the median
of the rounds' ratios, with the range that holds the middle half of them, so a busy neighbour slows both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import quantiles

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import parser, table
from benchmarks.timing import seconds
from bladescan.base.errors import BladescanError
from bladescan.detectors.shipped import ONNX, SAFETENSORS
from bladescan.exporting.onnx import seeded_crops
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import get_plugin
from bladescan.scanning.scoring import score_in_batches

BACKENDS = {"onnx": ONNX, "openvino": ONNX, "pytorch": SAFETENSORS}


def ratios(backend: Backend, crops: NDArray[np.uint8], batch: int, rounds: int) -> list[float]:
    """Seconds by `submit`, as a scan calls it, over seconds of plain calls; one for each round."""
    plain: Callable[[], object] = partial(_plain, backend, crops, batch)
    submitted: Callable[[], object] = partial(score_in_batches, backend, crops, batch)
    plain(), submitted()
    found = []
    for n in range(rounds):
        first, second = (plain, submitted) if n % 2 else (submitted, plain)
        took = {first: seconds(first), second: seconds(second)}
        found.append(took[submitted] / took[plain])
    return found


def _plain(backend: Backend, crops: NDArray[np.uint8], batch: int) -> None:
    for start in range(0, len(crops), batch):
        backend.score(crops[start : start + batch])


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__spec__, __doc__)
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--rounds", type=int, default=60)
    asked = options.parse_args(argv)
    crops = seeded_crops(2 * asked.batch, 224)
    rows = []
    for name, path in BACKENDS.items():
        try:
            backend = get_plugin(name).open(path, BackendSettings("cpu"))
        except BladescanError as exc:
            rows.append([name, str(exc), "-"])
            continue
        low, middle, high = quantiles(ratios(backend, crops, asked.batch, asked.rounds), n=4)
        rows.append([name, f"{middle:.3f}", f"{low:.3f}-{high:.3f}"])
        backend.close()
    print(table(["backend", "submit / plain call", "middle half"], rows))


if __name__ == "__main__":
    main()
