"""How far the paper's threshold misses its false-alarm rate, and how near a held-out one comes.

    python -m benchmarks.quality.false_alarm --encoder encoder.safetensors --photos DIR --group-by folder
    python -m benchmarks.quality.false_alarm --embeddings photographs.npz  (``embeddings``, ``groups``)

Each of the repeated splits cuts the photographs, by group, into three parts: fitted, calibration, unseen.
"In-sample" fits the mixture on the first two and takes the paper's threshold, the value at index
int(rate * n) of the sorted training log-likelihoods; "held-out" fits on the first and calibrates on the
second. Both are measured on the unseen part.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import parser, table
from bladescan.detectors.calibration import (
    clopper_pearson,
    compress_calibration,
    false_alarm_interval,
    false_alarm_threshold,
    hold_out,
)
from bladescan.detectors.manifest import CalibratedHead
from bladescan.heads.mixture_fit import COVARIANCES, fit_mixture


class Split(NamedTuple):
    """Alarms among the unseen photographs of one split."""

    n_calibration: int
    n_unseen: int
    in_sample: int
    held_out: int


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(argv)
    embeddings, groups = load(options)
    print(f"{len(embeddings)} photographs in {len(np.unique(groups))} groups, {options.splits} splits")
    splits = []
    for seed in range(options.splits):
        splits.append(measure(embeddings, groups, options, seed))
        last = splits[-1]
        print(
            f"  split {seed}: {last.in_sample} and {last.held_out} alarms of {last.n_unseen} unseen",
            flush=True,
        )
    report(splits, options.rate, options.covariance)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__spec__, __doc__)
    made.add_argument("--embeddings", type=Path, help=".npz with embeddings [n, d] and, if known, groups [n]")
    made.add_argument("--encoder", type=Path, help="detector or bare encoder (.safetensors)")
    made.add_argument("--photos", type=Path, nargs="*", default=[], help="folders of photographs")
    made.add_argument("--group-by", choices=("file", "folder"), default="folder")
    made.add_argument("--rate", type=float, default=0.05, help="asked false-alarm rate")
    made.add_argument("--covariance", choices=(*COVARIANCES, "auto"), default="full")
    made.add_argument("--components", type=int, default=10)
    made.add_argument("--splits", type=int, default=10)
    options = made.parse_args(argv)
    if (options.embeddings is None) == (options.encoder is None or not options.photos):
        made.error("give either --embeddings, or --encoder with --photos")
    return options


def load(options: argparse.Namespace) -> tuple[NDArray[np.float32], NDArray[Any]]:
    if options.embeddings is not None:
        with np.load(options.embeddings, allow_pickle=False) as file:
            embeddings = file["embeddings"]
            return embeddings, file["groups"] if "groups" in file else np.arange(len(embeddings))
    from bladescan.fitting.features import embed_images
    from bladescan.runtimes.backend import BackendSettings
    from bladescan.runtimes.registry import get_plugin
    from bladescan.scanning.decoder_process import DecoderSettings
    from bladescan.sources.listing import list_sources
    from bladescan.sources.query import SourceQuery

    backend = get_plugin("pytorch").open(options.encoder, BackendSettings())
    sources = list_sources(SourceQuery(tuple(map(str, options.photos))), stdin=None)
    found = embed_images(sources, backend, DecoderSettings(), group_by=options.group_by)
    return found.embeddings, np.asarray(found.groups)


def measure(
    embeddings: NDArray[np.float32], groups: NDArray[Any], options: argparse.Namespace, seed: int
) -> Split:
    rng = np.random.default_rng(seed)
    unseen = hold_out(len(embeddings), 0.3, rng, groups)
    seen, seen_groups = embeddings[~unseen], groups[~unseen]
    held = hold_out(len(seen), 0.3, rng, seen_groups)
    shape = {"covariance": options.covariance, "n_components": options.components, "random_state": seed}
    paper = fit_mixture(seen, groups=seen_groups, **shape).mixture
    ours = fit_mixture(seen[~held], groups=seen_groups[~held], **shape).mixture
    training = np.sort(paper.score_samples(seen))
    head = CalibratedHead(compress_calibration(ours.score_samples(seen[held])), int(held.sum()))
    return Split(
        n_calibration=head.n_held_out,
        n_unseen=int(unseen.sum()),
        in_sample=int(
            (paper.score_samples(embeddings[unseen]) < training[int(options.rate * len(seen))]).sum()
        ),
        held_out=int(
            (ours.score_samples(embeddings[unseen]) < false_alarm_threshold(head, options.rate)).sum()
        ),
    )


def report(splits: list[Split], rate: float, covariance: str) -> None:
    low, high = false_alarm_interval(splits[0].n_calibration, rate)
    print(f"\nasked false-alarm rate {rate:.1%}, covariance {covariance}, measured on unseen photographs")
    rows = [cells(splits, name) for name in ("in_sample", "held_out")]
    print(table(["threshold", "mean", "lowest split", "highest split", "95% interval, first split"], rows))
    print(f"\npredicted for a threshold held out on {splits[0].n_calibration}: {low:.1%} to {high:.1%}")


def cells(splits: list[Split], name: str) -> list[str]:
    counts = [getattr(split, name) for split in splits]
    rates = [count / split.n_unseen for count, split in zip(counts, splits, strict=True)]
    low, high = clopper_pearson(counts[0], splits[0].n_unseen)
    shares = (f"{rate:.1%}" for rate in (np.mean(rates), min(rates), max(rates)))
    return [name.replace("_", "-"), *shares, f"{low:.1%} to {high:.1%}"]


if __name__ == "__main__":
    main()
