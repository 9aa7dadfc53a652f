"""What RIGID, Contrastive Blur, MINDER and AEROBLADE tell of AI-generated faces over a detector's encoder.

    BLADESCAN_DATA=... python -m benchmarks.quality.training_free DETECTOR.onnx [--at-most N] [--evaluation]
        [--autoencoder SECONDS | --autoencoders FILE ...]

The encoder is taken out of an exported detector, and the movement put behind it as by `bladescan fit --set
encoder.movement=NAME`. Heads are fitted on photographs of the training pool, half of which calibrate. *More*:
the AUC of "AI-generated faces move more", as the papers have it. *Two-sided*: of the one-class head, which
photographs alone made. *Learned*: of a binary head that was shown 20 faces of each other generator of the
training pool. Measured on photographs of sources that no head has seen.

`--autoencoder` trains a small autoencoder for so long (`small_autoencoder`) on every second photograph of the
fit, fits on the others, and measures the distance of a face from its reconstruction: of embeddings
(AEROBLADE), and of the features of every place of the last map (AEROBLADE, places). `--autoencoders` takes
those of files, such as `train --recipe blades-autoencode` leaves. Nothing else is measured then.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.quality.leave_one_out import MATCHED_SIDE
from benchmarks.quality.pictures import Bench, Cut, Groups, bench_parser, join, open_bench, sample
from benchmarks.quality.small_autoencoder import train_autoencoder
from benchmarks.tables import cell, table
from bladescan.detectors.calibration import hold_out
from bladescan.detectors.manifest import HeadName, Manifest
from bladescan.evaluation.metrics import Sample, compute_metrics
from bladescan.fitting.binary_fit import binary_scores
from bladescan.fitting.fit_settings import FitSettings
from bladescan.fitting.heads_fit import FitFaces, fit_detector
from bladescan.foreign.encoders import load_foreign_encoder
from bladescan.foreign.movement import DISTANCES
from bladescan.foreign.onnx_graph import cut_down
from bladescan.foreign.tails import Tails, fit_tails, normal_scores
from bladescan.heads.detector import Detector
from bladescan.runtimes.onnx_session import open_session

PHOTOGRAPHS = 150
"""Of a set, at most: one number needs no more."""
SHOWN = 20
"""Faces of each generator that teach the direction."""

MINDER = ("encoder.movement=minder",)

Rows = NDArray[np.float32]


class Moved(NamedTuple):
    """How far some faces moved: logarithms by name of the score ``[n]``, and which file each face is of."""

    movements: Mapping[str, Rows]
    files: NDArray[np.intp]


def bare_encoder(detector: Path, out: Path) -> None:
    """Take the encoder out of an exported detector: from normalised pixels to the embedding."""
    model = onnx.load(detector)
    graph = model.graph
    divisions = [node for node in graph.node if node.op_type == "Div"]
    by_deviation = divisions[1]  # the first is by 255
    pixels, side = by_deviation.output[0], graph.input[0].type.tensor_type.shape.dim[1].dim_value
    graph.node.remove(by_deviation)
    cut_down(model, ("embedding",))
    del graph.input[:]
    kind = onnx.TensorProto.FLOAT
    graph.input.append(onnx.helper.make_tensor_value_info(pixels, kind, ["n", 3, side, side]))
    graph.output.append(onnx.helper.make_tensor_value_info("embedding", kind, ["n", None]))
    onnx.save(model, out)


class Encoder:
    """The encoder of a detector with the movement behind it.

    Args:
        detector: exported.
        manifest: of it.
        changes: which movement, see `bladescan.foreign.layout.EncoderLayout`.
    """

    def __init__(self, detector: Path, manifest: Manifest, changes: Sequence[str] = MINDER) -> None:
        rule = manifest.preprocessing
        said = [f"encoder.{key}={','.join(map(str, getattr(rule, key)))}" for key in ("mean", "std")]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "encoder.onnx"
            bare_encoder(detector, path)
            self.bare: Detector = load_foreign_encoder(f"onnx:{path}", [*said, *changes])
        model = onnx.load_from_string(self.bare.graph)
        model.graph.output.append(onnx.ValueInfoProto(name=DISTANCES))
        self._session = open_session(model.SerializeToString())
        self._batch = self.bare.manifest.encoder.batch or 8

    def distances(self, cut: Cut) -> Rows:
        """Measure the logarithms of cosine distances, a row for each changed copy."""
        parts = [
            self._session.run([DISTANCES], {"crops": cut.crops[i : i + self._batch]})[0]
            for i in range(0, len(cut.crops), self._batch)
        ]
        found: Rows = np.log(np.concatenate(parts, 1) + 1e-12).astype(np.float32)
        return found

    def moved(self, cut: Cut) -> Moved:
        """Measure how far faces move by each score."""
        by_noise, by_blur = self.distances(cut)
        movements = {
            "RIGID": by_noise,
            "Contrastive Blur": by_blur,
            "MINDER": np.minimum(by_noise, by_blur),
        }
        return Moved(movements, cut.files)


class Reconstructions:
    """The encoder of a detector and autoencoders.

    Args:
        detector: exported.
        manifest: of it.
        files: of the autoencoders.
        between: which values their pixels lie.
    """

    def __init__(
        self, detector: Path, manifest: Manifest, files: Sequence[Path], between: tuple[float, float]
    ) -> None:
        changes = [
            "encoder.movement=reconstruction",
            f"encoder.autoencoder={','.join(map(str, files))}",
            f"encoder.autoencoder_range={between[0]},{between[1]}",
        ]
        places = [f"encoder.output={last_map(detector)}", "encoder.tokens=places"]
        self._encoders = {
            "AEROBLADE": Encoder(detector, manifest, changes),
            "AEROBLADE, places": Encoder(detector, manifest, [*changes, *places]),
        }
        self.bare = self._encoders["AEROBLADE"].bare

    def moved(self, cut: Cut) -> Moved:
        """Measure how far faces are from their reconstructions by each score."""
        least = {name: one.distances(cut).min(0) for name, one in self._encoders.items()}
        return Moved(least, cut.files)


def last_map(detector: Path) -> str:
    """Find the last map of features in an exported detector: what its first mean is taken of."""
    nodes = onnx.load(detector).graph.node
    return str(next(node.input[0] for node in nodes if node.op_type in ("ReduceMean", "GlobalAveragePool")))


class Heads(NamedTuple):
    """A detector fitted on one score, and how photographs of its fit are spread."""

    detector: Detector
    tails: Tails

    def sample(self, score: str, some: Moved, head: HeadName) -> Sample:
        """A head's scores of some faces."""
        rows = normal_scores(self.tails, some.movements[score])[:, None]
        mixture, classifier = self.detector.mixture, self.detector.classifier
        assert mixture is not None
        scores = mixture.score_samples(rows)
        if head == "binary":
            assert classifier is not None
            scores = binary_scores(classifier, rows)
        return sample(scores, some.files, self.detector.manifest.heads[head])


def fit_heads(encoder: Encoder | Reconstructions, fitted: Moved, score: str, shown: Sequence[Moved]) -> Heads:
    """Fit and calibrate, half and half, with the first faces of some generators."""
    ours = fitted.movements[score][:, None]
    held = hold_out(len(ours), 0.5, np.random.default_rng(0), fitted.files)
    theirs = np.concatenate([one.movements[score][:SHOWN] for one in shown])[:, None]
    faces = FitFaces(ours, theirs, groups=fitted.files, held_out=held)
    detector = fit_detector(encoder.bare, faces, FitSettings("auto"))
    return Heads(detector, fit_tails(ours[~held, 0]))


def rows(
    encoder: Encoder | Reconstructions,
    score: str,
    fitted: Moved,
    shown: Mapping[str, Moved],
    tested: tuple[Moved, dict[str, Moved]],
) -> list[list[str]]:
    """The rows of one score, one for each generator."""
    photographs, generated = tested
    found = []
    for name, theirs in generated.items():
        heads = fit_heads(encoder, fitted, score, [one for other, one in shown.items() if other != name])
        pair = photographs, theirs
        pairs = [
            [sample(-some.movements[score].astype(float), some.files) for some in pair],
            [heads.sample(score, some, "one-class") for some in pair],
            [heads.sample(score, some, "binary") for some in pair],
        ]
        more, both, learned = (cell(compute_metrics(a, {name: b}).generators[name].auc) for a, b in pairs)
        flags = [f"{one.flagged.mean():.0%}" for two in pairs[1:] for one in two]
        found.append([score, name, str(len(theirs.files)), more, both, *flags[:2], learned, *flags[2:]])
    return found


def thinned(groups: Groups, most: int) -> dict[str, list[Path]]:
    """At most so many files of all groups together, spread over them."""
    listed = [(name, file) for name, files in groups.items() for file in files]
    found: dict[str, list[Path]] = {}
    for name, file in listed[:: -(-len(listed) // most)]:
        found.setdefault(name, []).append(file)
    return found


HEADER = [
    "score",
    "AI-generated by",
    "faces",
    "more: AUC",
    "two-sided: AUC",
    "photographs flagged",
    "flagged",
]
HEADER += ["learned: AUC", "photographs flagged", "flagged"]


def trained(asked: argparse.Namespace, bench: Bench, folder: Path) -> Reconstructions:
    """Train an autoencoder on every second photograph of the fit, and say how well it reconstructs."""
    others = {name: group[1::2] for name, group in bench.collection.fitted.items()}
    learned = join(cut.matched(MATCHED_SIDE) for cut in bench.cut(others).values()).crops
    file = folder / "autoencoder.onnx"
    error = train_autoencoder(learned, asked.autoencoder, file)
    print(f"autoencoder: {asked.autoencoder:g} s, {len(learned)} faces, error {255 * error:.1f}\n")
    return Reconstructions(bench.detector, bench.manifest, [file], (0, 1))


def measure(asked: argparse.Namespace, bench: Bench, encoder: Encoder | Reconstructions) -> None:
    """Measure an encoder and print a table for each set of faces."""
    files = bench.collection
    if asked.autoencoder:  # the other half made the autoencoder
        files = dataclasses.replace(files, fitted={name: group[::2] for name, group in files.fitted.items()})

    def moved(groups: Groups) -> dict[str, Moved]:
        return {name: encoder.moved(cut.matched(MATCHED_SIDE)) for name, cut in bench.cut(groups).items()}

    def together(groups: Groups) -> Moved:
        cut = join(bench.cut(thinned(groups, PHOTOGRAPHS)).values())
        return encoder.moved(cut.matched(MATCHED_SIDE))

    fitted, shown = together(files.fitted), moved(files.trained)
    sets = [("training pool", together(files.held_out), shown)]
    if asked.evaluation:
        sets.append(("evaluation", together(files.photographic), moved(files.generated)))
    for name, photographs, generated in sets:
        found = [
            row
            for score in fitted.movements
            for row in rows(encoder, score, fitted, shown, (photographs, generated))
        ]
        print(f"{name}: {len(photographs.files)} photographs, {len(fitted.files)} others of the fit\n")
        print(table(HEADER, found), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = bench_parser(__spec__, __doc__)
    parser.add_argument("--evaluation", action="store_true", help="measure on evaluation/ as well")
    made_of = parser.add_mutually_exclusive_group()
    made_of.add_argument(
        "--autoencoder", type=float, metavar="SECONDS", help="train one, and measure AEROBLADE"
    )
    made_of.add_argument(
        "--autoencoders", type=Path, nargs="+", help="files (-1 to 1) that measure AEROBLADE"
    )
    asked = parser.parse_args(argv)
    bench = open_bench(asked)
    if asked.autoencoders:
        measure(asked, bench, Reconstructions(bench.detector, bench.manifest, asked.autoencoders, (-1, 1)))
    elif asked.autoencoder:
        with tempfile.TemporaryDirectory() as folder:
            measure(asked, bench, trained(asked, bench, Path(folder)))
    else:
        measure(asked, bench, Encoder(bench.detector, bench.manifest))


if __name__ == "__main__":
    main()
