"""What a lower precision changes: verdicts and AUC of bf16 and int8 beside float32, on the same crops.

    BLADESCAN_DATA=FOLDER python -m benchmarks.quality.precision [DETECTOR] [--at-most N] [-o FILE.json]

The photographs of the fit set the ranges of the integers; compared are all faces that were held out, and
the AI-generated faces of the evaluation. The AUC is the mean over generators, each counted once.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.pictures import RATE, Bench, bench_parser, join, mean_auc, open_bench, sample
from benchmarks.tables import table
from bladescan.base.errors import BladescanError
from bladescan.base.records import Scores
from bladescan.detectors.calibration import p_values, photographic_scores
from bladescan.evaluation.report import Interval
from bladescan.exporting.quantisation import quantise
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import get_plugin
from bladescan.scanning.scoring import score_in_batches


def runtimes(bench: Bench, folder: Path) -> dict[str, Backend]:
    """Float32 first, then what is compared with it; what cannot be had here is said and left out."""
    fitted = join(bench.cut(bench.collection.fitted).values()).crops
    int8 = folder / "int8.onnx"
    int8.write_bytes(
        quantise(bench.detector.read_bytes(), fitted, where=bench.detector.name, least_same=0)[0]
    )
    ways = {
        "onnx": ("onnx", bench.detector, "fp32"),
        "openvino": ("openvino", bench.detector, "fp32"),
        "openvino, bf16": ("openvino", bench.detector, "bf16"),
        "onnx, int8": ("onnx", int8, "fp32"),
        "openvino, int8": ("openvino", int8, "fp32"),
    }
    opened = {}
    for name, (backend, path, precision) in ways.items():
        try:
            opened[name] = get_plugin(backend).open(path, BackendSettings("cpu", precision=precision))
        except BladescanError as exc:
            print(f"{name} is left out: {exc}")
    return opened


def compare(bench: Bench, backend: Backend) -> dict[str, Any]:
    """Flags and AUC of each head with one runtime."""
    photographs = join(
        [*bench.cut(bench.collection.held_out).values(), *bench.cut(bench.collection.photographic).values()]
    )
    generated = bench.cut(bench.collection.generated)
    ours = scored(backend, photographs.crops)
    theirs = {name: scored(backend, cut.crops) for name, cut in generated.items()}
    found: dict[str, Any] = {}
    for head in bench.heads:
        samples = {
            name: sample(photographic_scores(theirs[name], head), cut.files)
            for name, cut in generated.items()
        }
        auc = mean_auc(sample(photographic_scores(ours, head), photographs.files), samples)
        everything = [ours, *theirs.values()]
        values = np.concatenate([photographic_scores(scores, head) for scores in everything])
        found[head] = {"auc": auc, "flags": p_values(bench.manifest.heads[head], values) <= RATE}
    return found


def scored(backend: Backend, crops: NDArray[np.uint8]) -> Scores:
    """Scores of some crops, of which there is at least one."""
    scores = score_in_batches(backend, crops, 16)
    assert scores is not None
    return scores


def rows(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Cells of the table; the first runtime is what the others are compared with."""
    first, cells = next(iter(found.values())), []
    for name, heads in found.items():
        for head, of in heads.items():
            same, auc = (of["flags"] == first[head]["flags"]), of["auc"]
            change = 100 * (auc.value - first[head]["auc"].value)
            cells.append(
                [name, head, f"{same.mean():.2%} of {len(same)}", f"{auc.value:.4f}", f"{change:+.2f}"]
            )
    return cells


def plain(value: object) -> object:
    """For JSON."""
    if isinstance(value, Interval):
        return [value.value, value.low, value.high]
    assert isinstance(value, np.ndarray)
    return int(value.sum())


def main(argv: Sequence[str] | None = None) -> None:
    """Compare and print."""
    options = bench_parser(__spec__, __doc__)
    options.add_argument("-o", "--output", type=Path, metavar="FILE", help="JSON of the same")
    asked = options.parse_args(argv)
    bench = open_bench(asked)
    with tempfile.TemporaryDirectory() as folder:
        found = {name: compare(bench, backend) for name, backend in runtimes(bench, Path(folder)).items()}
    print(table(["runtime", "head", "same verdict", "AUC", "points"], rows(found)))
    if asked.output:
        asked.output.write_text(json.dumps(found, default=plain, indent=1))


if __name__ == "__main__":
    main()
