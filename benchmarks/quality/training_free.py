"""What RIGID, Contrastive Blur and MINDER tell of AI-generated faces over the encoder of a detector.

    BLADESCAN_DATA=... python -m benchmarks.quality.training_free DETECTOR.onnx [--at-most N] [--evaluation]

The encoder is taken out of an exported detector, and the movement put behind it as by `bladescan fit --set
encoder.movement=NAME`. Heads are fitted on photographs of the training pool, half of which calibrate. *More*:
the AUC of "AI-generated faces move more", as the papers have it. *Two-sided*: of the one-class head, which
photographs alone made. *Learned*: of a binary head that was shown 20 faces of each other generator of the
training pool. Measured on photographs of sources that no head has seen.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.quality.leave_one_out import MATCHED_SIDE
from benchmarks.quality.pictures import Cut, Groups, bench_parser, join, open_bench, sample
from benchmarks.tables import cell, table
from bladescan.detectors.manifest import Manifest
from bladescan.evaluation.metrics import Sample, compute_metrics
from bladescan.fitting.binary_fit import binary_scores
from bladescan.fitting.heads_fit import FitFaces, FitSettings, fit_detector
from bladescan.foreign.encoders import load_foreign_encoder
from bladescan.foreign.movement import DISTANCES
from bladescan.foreign.onnx_graph import cut_down
from bladescan.heads.detector import Detector
from bladescan.runtimes.onnx_session import open_session

PHOTOGRAPHS = 150
"""Of a set, at most: one number needs no more."""
SHOWN = 20
"""Faces of each generator that teach the direction."""

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
    """

    def __init__(self, detector: Path, manifest: Manifest) -> None:
        rule = manifest.preprocessing
        changes = [f"encoder.{key}={','.join(map(str, getattr(rule, key)))}" for key in ("mean", "std")]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "encoder.onnx"
            bare_encoder(detector, path)
            self.bare: Detector = load_foreign_encoder(f"onnx:{path}", [*changes, "encoder.movement=minder"])
        model = onnx.load_from_string(self.bare.graph)
        model.graph.output.append(onnx.ValueInfoProto(name=DISTANCES))
        self._session = open_session(model.SerializeToString())
        self._batch = self.bare.manifest.encoder.batch or 8

    def moved(self, cut: Cut) -> Moved:
        """Measure how far faces move by each score."""
        parts = [
            self._session.run([DISTANCES], {"crops": cut.crops[i : i + self._batch]})[0]
            for i in range(0, len(cut.crops), self._batch)
        ]
        by_noise, by_blur = np.log(np.concatenate(parts, 1) + 1e-12).astype(np.float32)
        movements = {
            "RIGID": by_noise,
            "Contrastive Blur": by_blur,
            "MINDER": np.minimum(by_noise, by_blur),
        }
        return Moved(movements, cut.files)


def rows(
    encoder: Encoder,
    score: str,
    fitted: Moved,
    shown: Mapping[str, Moved],
    tested: tuple[Moved, dict[str, Moved]],
) -> list[list[str]]:
    """The rows of one score, one for each generator."""
    photographs, generated = tested
    settings = FitSettings("auto", held_out=0.5)
    ours = fitted.movements[score][:, None]
    alone = fit_detector(encoder.bare, FitFaces(ours, groups=fitted.files), settings)
    assert alone.mixture is not None

    def two_sided(some: Moved) -> Sample:
        assert alone.mixture is not None
        scores = alone.mixture.score_samples(some.movements[score][:, None])
        return sample(scores, some.files, alone.manifest.heads["one-class"])

    found = []
    for name, theirs in generated.items():
        others = [one.movements[score][:SHOWN] for other, one in shown.items() if other != name]
        taught = fit_detector(
            encoder.bare, FitFaces(ours, np.concatenate(others)[:, None], groups=fitted.files), settings
        )
        state = taught.classifier
        assert state is not None
        pairs = [
            tuple(sample(-some.movements[score].astype(float), some.files) for some in (photographs, theirs)),
            (two_sided(photographs), two_sided(theirs)),
            tuple(
                sample(
                    binary_scores(state, some.movements[score][:, None]),
                    some.files,
                    taught.manifest.heads["binary"],
                )
                for some in (photographs, theirs)
            ),
        ]
        more, both, learned = (compute_metrics(a, {name: b}).generators[name] for a, b in pairs)
        flags = [f"{one.flagged.mean():.0%}" for pair in pairs[1:] for one in pair]
        found.append([score, name, str(len(theirs.files)), cell(more.auc), cell(both.auc), *flags[:2]])
        found[-1] += [cell(learned.auc), *flags[2:]]
    return found


def thinned(groups: Groups, most: int) -> dict[str, list[Path]]:
    """At most so many files of all groups together, spread over them."""
    listed = [(name, file) for name, files in groups.items() for file in files]
    found: dict[str, list[Path]] = {}
    for name, file in listed[:: -(-len(listed) // most)]:
        found.setdefault(name, []).append(file)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = bench_parser(__spec__, __doc__)
    parser.add_argument("--evaluation", action="store_true", help="measure on evaluation/ as well")
    asked = parser.parse_args(argv)
    bench = open_bench(asked)
    encoder = Encoder(bench.detector, bench.manifest)

    def moved(groups: Groups) -> dict[str, Moved]:
        return {name: encoder.moved(cut.matched(MATCHED_SIDE)) for name, cut in bench.cut(groups).items()}

    def together(groups: Groups) -> Moved:
        cut = join(bench.cut(thinned(groups, PHOTOGRAPHS)).values())
        return encoder.moved(cut.matched(MATCHED_SIDE))

    files = bench.collection
    fitted, shown = together(files.fitted), moved(files.trained)
    sets = [("training pool", together(files.held_out), shown)]
    if asked.evaluation:
        sets.append(("evaluation", together(files.photographic), moved(files.generated)))
    header = [
        "score",
        "AI-generated by",
        "faces",
        "more: AUC",
        "two-sided: AUC",
        "photographs flagged",
        "flagged",
    ]
    header += ["learned: AUC", "photographs flagged", "flagged"]
    for name, photographs, generated in sets:
        found = [
            row
            for score in fitted.movements
            for row in rows(encoder, score, fitted, shown, (photographs, generated))
        ]
        print(f"{name}: {len(photographs.files)} photographs, {len(fitted.files)} others of the fit\n")
        print(table(header, found), flush=True)


if __name__ == "__main__":
    main()
