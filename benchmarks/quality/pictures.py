"""What the parts of `model_card` share: which pictures, their faces cut once, scores, shares.

It measures nothing itself. Pictures are found by the ``manifest.csv`` of the folder ``BLADESCAN_DATA``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import parser, percent
from bladescan.base.records import Scores
from bladescan.detectors.calibration import clopper_pearson, p_values, photographic_scores
from bladescan.detectors.manifest import CalibratedHead, HeadName
from bladescan.detectors.shipped import shipped_detector
from bladescan.evaluation.degradations import match
from bladescan.evaluation.metrics import Sample, compute_metrics
from bladescan.evaluation.report import Interval
from bladescan.fitting.degraded_copies import degraded_copies
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import choose_plugin
from bladescan.scanning.cut_faces import Faces, cut_faces
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.decoders import decoder_pool
from bladescan.scanning.scoring import score_in_batches
from bladescan.sources.source import Source

RATE = 0.05
HELD_OUT_SOURCES = (
    "csvconf",
    "ms_advocates",
    "openff",
    "djangocon2022",
    "interfaces_cc0",
    "sklearn_blog",
    "ols",
)
"""Photographs that neither encoder nor heads of the detector that ships learned from; two sets calibrate."""

Groups = Mapping[str, Sequence[Path]]
"""Files by set, source or generator."""


@dataclass(frozen=True)
class Collection:
    """The files of the data by what they are.

    Attributes:
        fitted: photographs of the fit, by source.
        held_out: photographs of `HELD_OUT_SOURCES`, by source.
        trained: AI-generated faces shown to the binary head, by generator.
        photographic, generated: for measuring only, by set and by generator.
    """

    fitted: dict[str, list[Path]] = field(default_factory=dict)
    held_out: dict[str, list[Path]] = field(default_factory=dict)
    trained: dict[str, list[Path]] = field(default_factory=dict)
    photographic: dict[str, list[Path]] = field(default_factory=dict)
    generated: dict[str, list[Path]] = field(default_factory=dict)


def collect(data: Path, at_most: int | None = None) -> Collection:
    """Files of the data by what they are, at most so many of each set, spread over it."""
    found = Collection()
    with open(data / "manifest.csv", newline="") as file:
        for row in csv.DictReader(file):
            place = _place(found, row)
            if place is not None:
                place[0].setdefault(place[1], []).append(data / row["path"])
    for groups in vars(found).values():
        for name, files in groups.items():
            groups[name] = sorted(files)[:: max(1, -(-len(files) // at_most)) if at_most else 1]
    return found


def _place(found: Collection, row: Mapping[str, str]) -> tuple[dict[str, list[Path]], str] | None:
    top, *below = row["path"].split("/")
    if top == "evaluation":
        return (found.photographic if below[0] == "photographic" else found.generated), below[1]
    if top == "ai-generated-train":
        return found.trained, below[0]
    if top == "faces" or row["path"].startswith("photographs/faces/"):
        if row["source"] not in HELD_OUT_SOURCES:
            return found.fitted, row["source"]
        return (found.held_out, row["source"]) if top == "faces" else None
    return None


@dataclass(frozen=True)
class Cut:
    """Faces of one group.

    Attributes:
        crops: uint8 ``[n, 224, 224, 3]``.
        files: ``[n]``, which file each face is of.
    """

    crops: NDArray[np.uint8]
    files: NDArray[np.intp]

    def matched(self, side: int) -> Cut:
        """The same faces as `bladescan evaluate --match` makes them alike."""
        return Cut(match(self.crops, side), self.files)

    def of(self, chosen: NDArray[np.bool_]) -> Cut:
        """Some of the faces."""
        return Cut(self.crops[chosen], self.files[chosen])


def join(cuts: Iterable[Cut]) -> Cut:
    """Several groups as one; their files stay apart."""
    parts = list(cuts)
    offsets = np.cumsum([0, *(len(part.files) and part.files.max() + 1 for part in parts)])
    files = [part.files + offset for part, offset in zip(parts, offsets, strict=False)]
    return Cut(np.concatenate([part.crops for part in parts]), np.concatenate(files))


class Bench:
    """A detector, the data, and the faces cut so far.

    Args:
        data: the folder.
        detector: its file.
        at_most: files of each set, None for all.
        n_jobs: processes that decode or fit.
    """

    def __init__(self, data: Path, detector: Path, at_most: int | None = None, n_jobs: int = 2) -> None:
        self.data, self.detector, self.at_most, self.n_jobs = data, detector, at_most, n_jobs
        self.collection = collect(data, at_most)
        self.backend: Backend = choose_plugin("auto", detector).open(detector, BackendSettings())
        self.manifest = self.backend.manifest
        rule = self.manifest.face_rule
        self.decoder = DecoderSettings(faces=rule.finder, face_rule=rule)
        order: tuple[HeadName, ...] = ("one-class", "binary")
        self.heads = [head for head in order if head in self.manifest.heads]
        self._cut: dict[tuple[Path, ...], dict[str, Cut]] = {}
        self._scored: dict[bytes, Scores] = {}

    def cut(self, groups: Groups) -> dict[str, Cut]:
        """The faces of some files, cut as a scan does; asked again, they are not cut again."""
        key = tuple(path for files in groups.values() for path in files)
        if key not in self._cut:
            self._cut[key] = self._cut_now(groups)
        return self._cut[key]

    def _cut_now(self, groups: Groups) -> dict[str, Cut]:
        with decoder_pool(self.n_jobs, self.decoder) as pool:
            found = {
                name: cut_faces([Source(str(path)) for path in files], pool) for name, files in groups.items()
            }
        return {name: _as_cut(faces) for name, faces in found.items() if len(faces.crops)}

    def score(self, crops: NDArray[np.uint8]) -> Scores:
        """Both heads' scores and the embeddings; the same crops are not scored again."""
        key = hashlib.blake2b(crops.tobytes()).digest()
        if key not in self._scored:
            scores = score_in_batches(self.backend, crops, 16)
            if scores is None:
                raise SystemExit("a set has no face: give more files (--at-most)")
            self._scored[key] = scores
        return self._scored[key]

    def embed_with_copies(self, crops: NDArray[np.uint8], n_copies: int) -> NDArray[np.float32]:
        """Embeddings ``[(1 + n_copies) n, d]`` of crops and, after all of them, of their degraded copies."""
        rng = np.random.default_rng(0)
        parts = [crops, *(degraded_copies(crops, rng) for _ in range(n_copies))]
        return np.concatenate([self.score(part).embedding for part in parts])

    def sample(self, cut: Cut, head: HeadName) -> Sample:
        """A head's scores of some faces and which it flags, asked for `RATE`."""
        return sample(photographic_scores(self.score(cut.crops), head), cut.files, self.manifest.heads[head])


def _as_cut(faces: Faces) -> Cut:
    return Cut(faces.crops, faces.images)


def sample(
    scores: NDArray[np.float64], files: NDArray[np.intp], head: CalibratedHead | None = None
) -> Sample:
    """Photographic scores as the report of an evaluation has them; without a head nothing is flagged."""
    flagged = np.zeros(len(scores), np.bool_) if head is None else p_values(head, scores) <= RATE
    return Sample(-scores, flagged, files)


def mean_auc(photographs: Sample, generators: Mapping[str, Sample]) -> Interval:
    """AUC, the mean over generators."""
    return compute_metrics(photographs, generators).mean.auc


def share_of(flags: NDArray[np.bool_]) -> Interval | None:
    """The share that is true, and its 95% Clopper-Pearson interval; None of nothing."""
    if not len(flags):
        return None
    return Interval(float(flags.mean()), *clopper_pearson(int(flags.sum()), len(flags)))


def flagged(sample: Sample) -> str:
    """The share of some faces that is flagged, in percent."""
    return percent(share_of(sample.flagged))


def bench_parser(spec: ModuleSpec, about: str | None) -> argparse.ArgumentParser:
    """Make the parser of a benchmark that takes a detector."""
    made = parser(spec, about)
    made.add_argument("detector", nargs="?", type=Path, metavar="DETECTOR", help="default: what ships")
    made.add_argument("--at-most", type=int, metavar="N", help="files of each set, for a quick trial")
    return made


def open_bench(asked: argparse.Namespace) -> Bench:
    """What the arguments name, with the data of ``BLADESCAN_DATA``."""
    data = os.environ.get("BLADESCAN_DATA", "")
    if not (Path(data) / "manifest.csv").is_file():
        raise SystemExit(
            f"BLADESCAN_DATA must name the folder of the data, with its manifest.csv; got {data!r}"
        )
    return Bench(Path(data), asked.detector or shipped_detector("blades"), asked.at_most)
