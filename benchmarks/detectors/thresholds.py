"""Set a detector's thresholds so that they hold for the strictest of several kinds of photographs.

    python -m benchmarks.detectors.thresholds fast.onnx stock.json -o fast.onnx

The detector is calibrated already, on photographs of many collections. Every further file is a list of
P(AI-generated) of one kind of photographs, scored by a detector like this one that has not seen them (for the
detectors in the package: retouched stock portraits). A face's p-value becomes the largest over the kinds, so
that the false-alarm rate holds for each of them; what the worst kind costs in AI-generated faces found is in
docs/trials.md.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.detectors.rewriting import rewrite
from benchmarks.tables import parser
from bladescan.detectors.manifest import Manifest


def strictest(kinds: list[ArrayLike], n: int) -> NDArray[np.float64]:
    """Merge photographic scores of several kinds, ascending: n quantiles, each the lowest over the kinds."""
    shares = np.arange(1, n + 1) / (n + 1)
    return np.min([np.quantile(np.asarray(kind, float), shares) for kind in kinds], axis=0)


def recalibrated(manifest: Manifest, kinds: list[ArrayLike], said: str) -> Manifest:
    """Merge the binary head's calibration with P(AI-generated) of further kinds."""
    head = manifest.heads["binary"]
    merged = strictest(
        [head.calibration, *(-np.asarray(kind, float) for kind in kinds)], len(head.calibration)
    )
    settings = {**head.settings, "strictest_of": said}
    head = msgspec.structs.replace(head, calibration=tuple(merged.tolist()), settings=settings)
    return msgspec.structs.replace(manifest, heads={**manifest.heads, "binary": head})


def main() -> None:
    options = parser(__spec__, __doc__)
    options.add_argument("detector", type=Path)
    options.add_argument("kinds", type=Path, nargs="+")
    options.add_argument("-o", "--output", type=Path, required=True)
    given = options.parse_args()
    kinds = [json.loads(path.read_text()) for path in given.kinds]
    said = ", ".join(
        [
            "the photographs held out",
            *(f"{path.stem} ({len(kind)})" for path, kind in zip(given.kinds, kinds, strict=True)),
        ]
    )
    rewrite(given.detector, given.output, lambda manifest: recalibrated(manifest, kinds, said))


if __name__ == "__main__":
    main()
