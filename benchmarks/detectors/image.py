"""Train an example of a detector of whole pictures by the product's own commands, and measure it.

    BLADESCAN_DATA=... python -m benchmarks.detectors.image -o FOLDER

Every way to view a picture is measured on the training pool: each generator is left out of one fit, and
stands against photographs of sources that the fit has not seen. The best way is fitted on all of the pool, as
``FOLDER/image.onnx``, and with ``--evaluation`` measured on ``evaluation/``: once, when all is chosen. The
encoder is that of ``blades``, which has seen photographs alone. The AI-generated pictures of the pool are
pictures of faces.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.commands import Scanned, run, scanned
from benchmarks.tables import parser, say, table
from bladescan.detectors.calibration import p_values
from bladescan.detectors.manifest import PictureRule
from bladescan.detectors.suspicion import suspicion
from bladescan.detectors.tile_scores import join_probabilities, tile_counts
from bladescan.fitting.binary_fit import binary_scores
from bladescan.fitting.embedding_file import open_embedding_file
from bladescan.fitting.features import Features, embed_images, open_encoder
from bladescan.fitting.fit_settings import FitSettings
from bladescan.fitting.heads_fit import FitFaces, fit_detector
from bladescan.fitting.job import FitOptions, load_encoder, made_with
from bladescan.heads.detector import Detector
from bladescan.sources.source import Source

VIEWS = {
    "tiles, mean": PictureRule("tiles", most=4, join="mean"),
    "tiles, top quarter": PictureRule("tiles", most=4, join="top"),
    "one tile in the centre": PictureRule("centre", most=4),
    "middle square made small": PictureRule("square", most=4),
}
FIT = FitSettings("diag", 1, binary_head="logistic")


class Bench:
    """The pool, and a folder for what is made."""

    def __init__(self, folder: Path) -> None:
        self.data, self.folder = Path(os.environ["BLADESCAN_DATA"]), folder
        folder.mkdir(parents=True, exist_ok=True)
        parts = (self.data / "photographs" / part for part in ("scenes", "faces"))
        self.photographs = [path for part in parts for path in files(part)]
        self.held = set(sorted({source(path) for path in self.photographs})[1::2])
        self.generators = sorted((self.data / "ai-generated-train").iterdir())
        self.kept = folder / "embeddings.sqlite"

    def embedded(self, rule: PictureRule) -> dict[str, Features]:
        """Embed the pool as a fit does: photographs to learn from, unseen ones, and each generator."""
        encoder = load_encoder("blades")
        options = FitOptions(backend="onnx", subject="image", picture_rule=rule, fit=FIT)
        manifest = msgspec.structs.replace(encoder.manifest, subject="image", picture_rule=rule)
        encoder = replace(encoder, manifest=manifest)
        decoder = options.decoder.for_detector(manifest)
        sets = {
            "learned": [path for path in self.photographs if source(path) not in self.held],
            "unseen": [path for path in self.photographs if source(path) in self.held],
            **{folder.name: files(folder) for folder in self.generators},
        }
        found = {}
        with (
            open_encoder(encoder, "onnx", options.runtime) as backend,
            open_embedding_file(self.kept, made_with(options, encoder, decoder, 0)) as known,
        ):
            for name, paths in sets.items():
                sources = [Source(str(path)) for path in paths]
                found[name] = embed_images(sources, backend, decoder, known=known)
                say(f"{rule.view}: {len(found[name].files)} crops of {found[name].n_images} pictures, {name}")
        return found

    def fit(self, rule: PictureRule, output: Path) -> None:
        """Fit a detector on all of the pool by the command."""
        view = ("--view", rule.view, "--tiles", str(rule.most), "--join", rule.join)
        given = [part for folder in self.generators for part in ("--ai-generated", folder)]
        given += [
            part for name in ("scenes", "faces") for part in ("--photos", self.data / "photographs" / name)
        ]
        heads = ("--binary-head", "logistic", "--covariance", "diag", "--components", "1", "--copies", "0")
        encoder = ("--encoder", "blades", "--backend", "onnx", "--embeddings", self.kept)
        run("fit", "--subject", "image", *view, *heads, *encoder, *given, "--quiet", "-o", output)

    def scan(self, model: Path, folder: Path) -> Scanned:
        """Scan whole pictures by the command."""
        return scanned(self.folder / "rows.jsonl", "--subject", "image", "--model", model, folder)


def joined(detector: Detector, features: Features) -> Scanned:
    """Score pictures by the tiles that are embedded already."""
    assert detector.classifier is not None
    p = -binary_scores(detector.classifier, features.embeddings)
    scores = -join_probabilities(p, tile_counts(features.files), detector.manifest.picture_rule.join)
    flagged = p_values(detector.manifest.heads["binary"], scores) <= detector.manifest.default_false_alarm
    return Scanned(suspicion(scores, "binary").tolist(), float(flagged.mean()))


def left_out(features: dict[str, Features], generator: str, rule: PictureRule) -> tuple[Scanned, Scanned]:
    """Fit without a generator; score unseen photographs and its pictures."""
    encoder = load_encoder("blades")
    manifest = msgspec.structs.replace(encoder.manifest, subject="image", picture_rule=rule)
    ours = features["learned"]
    others = [
        part.embeddings for name, part in features.items() if name not in ("learned", "unseen", generator)
    ]
    faces = FitFaces(ours.embeddings, np.concatenate(others), groups=ours.groups, pictures=ours.files)
    detector = fit_detector(replace(encoder, manifest=manifest), faces, FIT)
    return joined(detector, features["unseen"]), joined(detector, features[generator])


def files(folder: Path) -> list[Path]:
    """List the files of a folder by name."""
    return sorted(path for path in folder.iterdir() if path.is_file())


def source(path: Path) -> str:
    """Tell which collection a photograph comes from."""
    return path.name.rpartition("-")[0]


def auc(photographs: Scanned, generated: Scanned) -> float:
    """Compute the area under the ROC curve."""
    truth = [0] * len(photographs.scores) + [1] * len(generated.scores)
    return float(roc_auc_score(truth, photographs.scores + generated.scores))


def choose(bench: Bench) -> str:
    """Measure every view with each generator left out; print a table, and give the best view."""
    names = [folder.name for folder in bench.generators]
    means, rows, known = {}, [], dict[str, dict[str, Features]]()
    for name, rule in VIEWS.items():
        features = known.setdefault(rule.view, {}) or bench.embedded(rule)
        known[rule.view] = features
        pairs = [left_out(features, generator, rule) for generator in names]
        areas = [auc(*pair) for pair in pairs]
        means[name] = float(np.mean(areas))
        alarms = float(np.mean([ours.flagged for ours, _ in pairs]))
        rows.append([name, *(f"{area:.2f}" for area in [*areas, means[name]]), f"{alarms:.0%}"])
    heads = [f"{name} out" for name in names]
    print(table(["view", *heads, "mean AUC", "unseen photographs flagged"], rows), flush=True)
    return max(means, key=lambda name: means[name])


def measure(bench: Bench, model: Path) -> None:
    """Measure a detector on the evaluation set, whole pictures as they are; print a table."""
    evaluation = bench.data / "evaluation"
    ours = {
        folder.name: bench.scan(model, folder) for folder in sorted((evaluation / "photographic").iterdir())
    }
    every = Scanned([score for one in ours.values() for score in one.scores], 0.0)
    rows = []
    for folder in sorted((evaluation / "ai-generated").iterdir()):
        theirs = bench.scan(model, folder)
        rows.append([folder.name, len(theirs.scores), f"{auc(every, theirs):.2f}", f"{theirs.flagged:.0%}"])
    print(table(["AI-generated by", "pictures", "AUC", "flagged"], rows))
    said = [[name, len(one.scores), f"{one.flagged:.0%}"] for name, one in ours.items()]
    print(table(["photographs", "pictures", "flagged"], said))


def main() -> None:
    options = parser(__spec__, __doc__)
    options.add_argument("-o", "--output", type=Path, required=True)
    options.add_argument("--view", choices=VIEWS, help="take this view, without measuring the others")
    options.add_argument("--evaluation", action="store_true", help="measure on evaluation/ as well")
    given = options.parse_args()
    bench = Bench(given.output)
    view = given.view or choose(bench)
    say(f"fitting on all of the pool: {view}")
    model = bench.folder / "image.onnx"
    bench.fit(VIEWS[view], model)
    if given.evaluation:
        measure(bench, model)


if __name__ == "__main__":
    main()
