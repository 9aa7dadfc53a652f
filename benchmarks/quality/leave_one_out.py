"""What the binary head makes of generators that it was not shown.

    BLADESCAN_DATA=... python -m benchmarks.quality.leave_one_out [DETECTOR] [--at-most N] > leave_one_out.md

Heads are trained as `bladescan fit` trained the detector's, on its encoder, with one generator left out, and
with one alone (as the paper does with VQGAN). They are measured on photographs of sources that no fit has
seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from benchmarks.quality.pictures import Bench, bench_parser, join, open_bench, sample
from benchmarks.tables import cell, table
from bladescan.evaluation.metrics import Sample, compute_metrics
from bladescan.evaluation.report import Metrics
from bladescan.fitting.binary_fit import binary_scores
from bladescan.heads.classifier import ClassifierSettings, Grouped, fit_classifier
from bladescan.heads.mixture import Mixture
from bladescan.heads.mixture_fit import fit_mixture

MATCHED_SIDE = 112

Embeddings = NDArray[np.float32]


class Rows(NamedTuple):
    """Faces and their degraded copies: embeddings ``[n, d]``, source or generator, which face, ``[n]``."""

    embeddings: Embeddings
    names: NDArray[Any]
    faces: NDArray[Any]

    def of(self, names: tuple[str, ...]) -> Rows:
        """Those of some sources or generators."""
        chosen = np.isin(self.names, names)
        return Rows(*(part[chosen] for part in self))


def rows_to_fit(bench: Bench, groups: Mapping[str, Any]) -> Rows:
    """What `bladescan fit --group-by folder` made of some files, with as many copies as the detector says."""
    cuts = bench.cut(groups)
    names = np.repeat(list(cuts), [len(cut.files) for cut in cuts.values()])
    n_copies = bench.manifest.provenance.get("degraded_copies", 0)
    embeddings = bench.embed_with_copies(join(cuts.values()).crops, n_copies)
    return Rows(embeddings, np.tile(names, 1 + n_copies), np.tile(np.arange(len(names)), 1 + n_copies))


def fit_settings(bench: Bench) -> dict[str, Any]:
    """The settings that the detector says it was fitted with."""
    settings: dict[str, Any] = bench.manifest.provenance.get("fit", {}).get("settings", {})
    return settings


def mixture_like_shipped(bench: Bench, photographs: Rows) -> Mixture:
    """The detector's own kind of mixture on these photographs, from which pseudo-outliers are drawn."""
    shape = bench.manifest.heads["one-class"].settings
    return fit_mixture(
        photographs.embeddings,
        covariance_type=shape["covariance"],
        n_components=min(shape["n_components"], len(photographs.embeddings) // 4),
        shrinkage=shape["shrinkage"],
        groups=photographs.names,
        random_state=fit_settings(bench).get("seed", 0),
    ).mixture


class Head(NamedTuple):
    """A trained binary head, by the generators that it was shown."""

    shown: tuple[str, ...]
    state: Mapping[str, Any]

    def sample(self, embeddings: Embeddings, files: NDArray[np.intp]) -> Sample:
        """Its scores of some faces."""
        return sample(binary_scores(self.state, embeddings), files)


def train_heads(bench: Bench, wanted: Sequence[tuple[str, ...]] = ()) -> list[Head]:
    """A head for each of some sets of generators; without, for each alone and for all but each."""
    photographs = rows_to_fit(bench, bench.collection.fitted)
    generated = rows_to_fit(bench, bench.collection.trained)
    mixture = mixture_like_shipped(bench, photographs)
    names = list(bench.collection.trained)
    without = [tuple(other for other in names if other != name) for name in names]
    wanted = list(dict.fromkeys(wanted or [*((name,) for name in names), *without]))
    given = fit_settings(bench)
    settings = ClassifierSettings(
        normalise=bench.manifest.encoder.normalise,
        n_outliers=given.get("n_outliers"),
        max_epochs=given.get("max_epochs", 100),
        random_state=given.get("seed", 0),
    )
    ours = Grouped(photographs.embeddings, photographs.names)
    fits = Parallel(bench.n_jobs)(
        delayed(fit_classifier)(ours, Grouped(shown.embeddings, shown.faces), mixture, settings)
        for shown in map(generated.of, wanted)
    )
    return [Head(shown, fit.state) for shown, fit in zip(wanted, fits, strict=True)]


def section(bench: Bench, side: int) -> str:
    """The tables."""
    heads = train_heads(bench)
    trained = bench.collection.trained
    ours = join(bench.cut(bench.collection.held_out).values()).matched(side)
    unseen = {name: cut.matched(side) for name, cut in bench.cut(trained).items()}
    photographs = bench.score(ours.crops).embedding, ours.files
    generated = {name: (bench.score(cut.crops).embedding, cut.files) for name, cut in unseen.items()}
    rows = []
    for head in heads:
        measured = compute_metrics(
            head.sample(*photographs),
            {g: head.sample(*x) for g, x in generated.items() if g not in head.shown},
        )
        rows += [[" + ".join(head.shown), *_cells(name, one)] for name, one in measured.generators.items()]
    header = ["shown", "tested on", "faces", "AUC", "TPR at 5%", "TPR at 1%"]
    n_fitted = sum(len(cut.files) for cut in bench.cut(bench.collection.fitted).values())
    return "\n\n".join(
        [
            "### The binary head on generators that it was not shown",
            f"Heads trained again on the same encoder: {n_fitted} photographs of the fit and the "
            "AI-generated faces of one or two generators. Tested, matched, on the generators left out "
            f"against {len(ours.files)} photographs of sources that no fit has seen; TPR where 5% or 1% of "
            "*these* are flagged.",
            table(header, rows),
            "The same heads on the evaluation set, matched: AUC. *All* is the head that ships.",
            _on_evaluation(bench, heads, side),
        ]
    )


def _cells(name: str, one: Metrics) -> list[str]:
    return [name, str(one.n_ai_generated), cell(one.auc), cell(one.tpr_at_5), cell(one.tpr_at_1)]


def _on_evaluation(bench: Bench, heads: list[Head], side: int) -> str:
    ours = join(bench.cut(bench.collection.photographic).values()).matched(side)
    theirs = {name: cut.matched(side) for name, cut in bench.cut(bench.collection.generated).items()}
    photographs = bench.score(ours.crops).embedding
    generated = {name: bench.score(cut.crops).embedding for name, cut in theirs.items()}
    columns = {}
    for head in [head for head in heads if len(head.shown) == 1]:
        samples = {name: head.sample(x, theirs[name].files) for name, x in generated.items()}
        columns[f"{head.shown[0]} alone"] = compute_metrics(head.sample(photographs, ours.files), samples)
    if "binary" in bench.heads:
        samples = {name: bench.sample(cut, "binary") for name, cut in theirs.items()}
        columns["all"] = compute_metrics(bench.sample(ours, "binary"), samples)
    rows = [
        [name, str(len(cut.files)), *(cell(one.generators[name].auc) for one in columns.values())]
        for name, cut in theirs.items()
    ]
    n = sum(len(cut.files) for cut in theirs.values())
    rows.append(["**mean**", str(n), *(cell(one.mean.auc) for one in columns.values())])
    return table(["AI-generated by", "faces", *columns], rows)


def main(argv: Sequence[str] | None = None) -> None:
    print(section(open_bench(bench_parser(__spec__, __doc__).parse_args(argv)), MATCHED_SIDE))


if __name__ == "__main__":
    main()
