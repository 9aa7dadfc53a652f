"""What combining p-values finds: detectors and heads, by photographs alone, against each alone.

    BLADESCAN_DATA=... python -m benchmarks.quality.combine [--at-most N] > combine.md
    BLADESCAN_DATA=... python -m benchmarks.quality.combine --evaluation > combine.md
    python -m benchmarks.quality.combine --simulate

The first leaves each generator of the training out: the binary head of ``blades`` and a linear head on
``accurate``'s encoder are trained without it, the one-class head knows none. ``fast`` was trained whole on
all of them, so nothing about it can be said there. ``--evaluation`` scores the evaluation set with the
detectors as they ship. Half of the photographs of collections that no detector learned from calibrate; in the
first table the other half is judged. ``--simulate`` measures false alarms of normal scores, without data.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.detectors.accurate import STRENGTH, fit
from benchmarks.detectors.faces import CALIBRATION_SOURCES
from benchmarks.quality.leave_one_out import train_heads
from benchmarks.quality.pictures import Bench, Cut, Groups, bench_parser, join, open_bench
from benchmarks.tables import cell, percent, say, table
from bladescan.detectors.calibration import compress_calibration, p_values, photographic_scores
from bladescan.detectors.combination import RULES, calibrate_together, combined_scores
from bladescan.detectors.dependence import dependences
from bladescan.detectors.manifest import CalibratedHead, Combination, CombinationRule, Component
from bladescan.evaluation.intervals import wilson_interval
from bladescan.evaluation.metrics import Sample, compute_metrics
from bladescan.fitting.binary_fit import binary_scores
from bladescan.runtimes.registry import open_detector
from bladescan.scanning.scoring import score_in_batches

RATE = 0.05
SIDE = 157
"""Pixels to which both classes are brought, at JPEG 90."""
BATCH = 16

Numbers = NDArray[np.float64]
Columns = Mapping[str, Numbers]
"""Photographic scores ``[n]`` of the same faces, by what gave them."""


class Judged:
    """Scores of one way to decide: a component alone, or a combination of several.

    Args:
        names: of the components.
        rule: of their combination; None for a single component.
        held_out: of photographs that calibrate.
    """

    def __init__(self, names: Sequence[str], rule: CombinationRule | None, held_out: Columns) -> None:
        self.names, self.rule = names, rule
        columns = np.stack([held_out[name] for name in names], 1)
        blank = CalibratedHead((), 0)
        parts = [Component(name, "one-class", blank) for name in names]
        parts, self.head = calibrate_together(rule or "stouffer", parts, columns)
        self.combination = Combination(rule or "stouffer", tuple(parts))
        if rule is None:
            self.head = CalibratedHead(compress_calibration(columns[:, 0]), len(columns))

    def sample(self, scores: Columns, files: NDArray[np.intp]) -> Sample:
        """What it says of some faces."""
        columns = np.stack([scores[name] for name in self.names], 1)
        photographic = columns[:, 0] if self.rule is None else combined_scores(self.combination, columns)
        return Sample(-photographic, p_values(self.head, photographic) <= RATE, files)

    def __str__(self) -> str:
        return " + ".join(self.names) + (f", {self.rule}" if self.rule else "")


def ways(names: Sequence[Sequence[str]], held_out: Columns) -> list[Judged]:
    """Each score alone, and each group of several by each rule."""
    found = [Judged(group, None, held_out) for group in names if len(group) == 1]
    return found + [Judged(group, rule, held_out) for group in names if len(group) > 1 for rule in RULES]


class Scorer:
    """The detectors and the faces of the data; each detector scores a cut once.

    Args:
        bench: of the detector whose heads are trained again.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.opened = {name: open_detector(name).backend for name in ("fast", "accurate")}
        for backend in self.opened.values():
            rule, own = backend.manifest.face_rule, bench.manifest.face_rule
            assert (rule.scale, rule.resize) == (own.scale, own.resize)

    def close(self) -> None:
        """Free the detectors."""
        for backend in self.opened.values():
            backend.close()

    def columns(self, cut: Cut) -> Columns:
        """The scores of the detectors that ship."""
        say(f"scoring {len(cut.files)} faces")
        blades = self.bench.score(cut.crops)
        found = {f"blades {head}": photographic_scores(blades, head) for head in self.bench.heads}
        for name, backend in self.opened.items():
            scores = score_in_batches(backend, cut.crops, BATCH)
            assert scores is not None
            found[name] = photographic_scores(scores, "binary")
        return found

    def embedded(self, cut: Cut) -> NDArray[np.float32]:
        """The embeddings of ``accurate``'s encoder."""
        say(f"embedding {len(cut.files)} faces")
        parts = [
            self.opened["accurate"].embed(cut.crops[start : start + BATCH])
            for start in range(0, len(cut.crops), BATCH)
        ]
        return np.concatenate(parts)


def photographs_to_calibrate(bench: Bench) -> Groups:
    """Files of collections that none of the detectors learned from."""
    held_out = bench.collection.held_out
    return {name: files for name, files in held_out.items() if name in CALIBRATION_SOURCES}


def halves(cut: Cut) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Every second file calibrates, the others are judged."""
    even = cut.files % 2 == 0
    return even, ~even


def leave_one_out(scorer: Scorer) -> str:
    """The table with one generator left out."""
    bench = scorer.bench
    trained = {name: cut.matched(SIDE) for name, cut in bench.cut(bench.collection.trained).items()}
    fitted = {name: cut.matched(SIDE) for name, cut in bench.cut(bench.collection.fitted).items()}
    ours = join(bench.cut(photographs_to_calibrate(bench)).values()).matched(SIDE)
    names = list(trained)
    heads = {
        left: head
        for head in train_heads(bench, [tuple(n for n in names if n != left) for left in names])
        for left in names
        if left not in head.shown
    }
    everything = {**trained, **fitted}
    embedded = {name: scorer.embedded(cut) for name, cut in everything.items()}
    of_ours = scorer.embedded(ours)
    lines: dict[str, list[list[float]]] = {}
    for left in names:
        shown = [name for name in everything if name != left]
        features = np.concatenate([embedded[name] for name in shown])
        groups = [name for name in shown for _ in embedded[name]]
        linear = fit(features, np.asarray([group in trained for group in groups]), groups, STRENGTH)

        def columns(cut: Cut, features: NDArray[np.float32], left=left, linear=linear) -> Columns:
            scores = bench.score(cut.crops)
            return {
                "blades one-class": photographic_scores(scores, "one-class"),
                "blades binary": binary_scores(heads[left].state, scores.embedding),
                "accurate": -(features.astype(float) @ linear.weights + linear.bias),
            }

        photographs, generated = columns(ours, of_ours), columns(trained[left], embedded[left])
        calibrating, judged = halves(ours)
        of_files = ours.files[judged]
        for way in ways(LEFT_OUT, {name: x[calibrating] for name, x in photographs.items()}):
            of_photographs = way.sample({name: x[judged] for name, x in photographs.items()}, of_files)
            theirs = {left: way.sample(generated, trained[left].files)}
            found = compute_metrics(of_photographs, theirs).generators[left]
            shares = [way_.flagged.mean() for way_ in (theirs[left], of_photographs)]
            lines.setdefault(str(way), []).append([found.auc.value, found.tpr_at_5.value, *shares])
    header = ["score", *(f"AUC, {name} left out" for name in names), "mean AUC", "mean TPR at 5%"]
    rows = [
        [name, *(f"{one[0]:.2f}" for one in found), *(f"{x:.2f}" for x in np.mean(found, 0)[:2])]
        + [f"{100 * x:.0f}%" for x in np.mean(found, 0)[2:]]
        for name, found in lines.items()
    ]
    return table([*header, "AI-generated flagged", "photographs flagged"], rows)


LEFT_OUT = (
    ("blades one-class",),
    ("blades binary",),
    ("accurate",),
    ("blades one-class", "blades binary"),
    ("blades binary", "accurate"),
    ("blades one-class", "accurate"),
    ("blades one-class", "blades binary", "accurate"),
)
SHIPPED = (
    ("blades one-class",),
    ("blades binary",),
    ("fast",),
    ("accurate",),
    ("blades one-class", "blades binary"),
    ("fast", "blades binary"),
    ("fast", "blades one-class"),
    ("fast", "accurate"),
    ("fast", "accurate", "blades binary"),
    ("fast", "accurate", "blades binary", "blades one-class"),
)


def evaluation(scorer: Scorer) -> str:
    """The tables of the evaluation set: what is found, and how the scores depend on each other."""
    bench = scorer.bench
    held_out = scorer.columns(join(bench.cut(photographs_to_calibrate(bench)).values()).matched(SIDE))
    cut = join(bench.cut(bench.collection.photographic).values()).matched(SIDE)
    photographs = scorer.columns(cut)
    cuts = {name: one.matched(SIDE) for name, one in bench.cut(bench.collection.generated).items()}
    generated = {name: scorer.columns(one) for name, one in cuts.items()}
    rows = []
    for way in ways(SHIPPED, held_out):
        ours = way.sample(photographs, cut.files)
        theirs = {name: way.sample(columns, cuts[name].files) for name, columns in generated.items()}
        mean = compute_metrics(ours, theirs).mean
        flags = np.concatenate([one.flagged for one in theirs.values()])
        rows.append([way, cell(mean.auc), cell(mean.tpr_at_5), _share(flags), _share(ours.flagged)])
    names = list(held_out)
    pairs = [
        [f"{names[one.first]}, {names[one.second]}", f"{one.rank_correlation:.2f}", f"{one.p_value:.2g}"]
        for one in dependences(np.stack([held_out[name] for name in names], 1))
    ]
    n = len(next(iter(held_out.values())))
    header = ["score", "AUC", "TPR at 5%", "AI-generated flagged, %", "photographs flagged, %"]
    return "\n\n".join(
        [
            f"{n} photographs calibrate.",
            table(header, rows),
            table(["scores", "rank correlation on photographs", "independence, p"], pairs),
        ]
    )


def _share(flags: NDArray[np.bool_]) -> str:
    return percent(wilson_interval(int(flags.sum()), len(flags)))


def simulate() -> str:
    """False alarms at 5% of new photographs, whose two scores are normal with correlation 0.5."""
    rows = []
    for n in (60, 110, 400):
        rng, shares = np.random.default_rng(0), np.zeros(3)
        n_draws = 150
        for _ in range(n_draws):
            both = [rng.normal(size=(m, 1)) * 0.5**0.5 + rng.normal(size=(m, 2)) * 0.5**0.5 for m in (n, 200)]
            held_out, new = ({"a": x[:, 0], "b": x[:, 1]} for x in both)
            for i, way in enumerate(ways((("a",), ("a", "b")), held_out)):
                shares[i] += way.sample(new, np.arange(200)).flagged.mean()
        alone, stouffer, least = shares / n_draws
        rows.append([n, *(f"{100 * share:.1f}%" for share in (stouffer, least, alone))])
    return table(["photographs that calibrate", "`stouffer`", "`min`", "one score alone"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Print what is asked as Markdown."""
    options: argparse.ArgumentParser = bench_parser(__spec__, __doc__)
    options.add_argument("--evaluation", action="store_true", help="the evaluation set")
    options.add_argument("--simulate", action="store_true", help="without data")
    asked = options.parse_args(argv)
    if asked.simulate:
        print(simulate())
        return
    scorer = Scorer(open_bench(asked))
    try:
        print(evaluation(scorer) if asked.evaluation else leave_one_out(scorer))
    finally:
        scorer.close()


if __name__ == "__main__":
    main()
