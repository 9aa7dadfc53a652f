"""Train SDAIE on photographs by the product's own commands, and measure what it learned and what it finds.

    BLADESCAN_DATA=... python -m benchmarks.quality.sdaie -o FOLDER

It trains shortly on all of ``photographs/``; a run that is in FOLDER already is taken, a broken one resumed.
EXIF tags are measured on camera models that were kept out. The one-class head is fitted on the photographs of
the others alone, with five components and a false-alarm rate of 2%, for whole pictures (the square of 224
pixels in the centre) or for faces.
Photographs of cameras that were kept out stand against the AI-generated pictures of the training pool, and
with ``--evaluation`` those of ``evaluation/`` among themselves: once, with the same detectors.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.commands import Scanned, run, scanned
from benchmarks.quality import pretext_tasks
from benchmarks.tables import Interval, cell, parser, say, table
from bladescan.photographs.faceless import NO_FACES
from bladescan.photographs.index import PhotographIndex
from bladescan.tasks.recipe_files import load_recipe
from bladescan.training import runs
from bladescan.training.photograph_split import split

EPOCHS = 12
CHANGES = (f"inner.epochs={EPOCHS}", "inner.batch_size=16", "augmentation.window=128", "workers=0")
"""What makes the training short: four tiles a square."""

FALSE_ALARM, COMPONENTS = 0.02, 5
N_BOOTSTRAPS = 500


class Bench:
    """The pool, and a folder for what is made."""

    def __init__(self, folder: Path) -> None:
        self.data, self.folder = Path(os.environ["BLADESCAN_DATA"]), folder
        self.run, self.index = folder / "run", folder / "photographs.sqlite"
        self.photographs = [self.data / "photographs" / name for name in ("scenes", "faces")]

    def train(self) -> None:
        """Train, unless there is a run already."""
        if (self.run / runs.ENCODER_FILE).exists():
            return
        photos = [part for folder in self.photographs for part in ("--photos", folder)]
        changes = [part for change in CHANGES for part in ("--set", change)]
        run("train", "--recipe", "sdaie", *photos, *changes, "--resume", "-o", self.run)

    def lists(self) -> tuple[list[Path], list[Path]]:
        """List the photographs that were learned from, and those of cameras that were kept out."""
        recipe = load_recipe(str(self.run / runs.RECIPE_FILE))
        parts = split(recipe, PhotographIndex(self.index, NO_FACES).entries())
        kept = {entry.digest for entry in parts.held_out}
        learned = {entry.digest for entry in parts.train}
        files = [path for folder in self.photographs for path in sorted(folder.iterdir())]
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
        ours, theirs = (
            [path for path, digest in zip(files, digests, strict=True) if digest in wanted]
            for wanted in (learned, kept)
        )
        return ours, theirs

    def fit(self, subject: str, photos: Sequence[Path]) -> Path:
        """Fit the one-class head on photographs, and export it."""
        fitted = self.folder / f"{subject}.onnx"
        if not fitted.exists():
            names = self.listed("learned", photos)
            head = ("--components", str(COMPONENTS), "--false-alarm", str(FALSE_ALARM), "--copies", "0")
            backend = ("--backend", "onnx")
            view = ("--view", "centre") if subject == "image" else ()
            given = ("--encoder", self.run, "--photos", f"@{names}", *head, *view, *backend)
            run("fit", "--subject", subject, *given, "--quiet", "-o", fitted)
        return fitted

    def scan(self, subject: str, model: Path, files: Sequence[Path]) -> Scanned:
        """Scan pictures by the command."""
        asked = ("--subject", subject, "--model", model, "--files-from", self.listed("scanned", files))
        return scanned(self.folder / "rows.jsonl", *asked)

    def listed(self, name: str, files: Sequence[Path]) -> Path:
        """Write a list of names."""
        path = self.folder / f"{name}.txt"
        path.write_text("".join(f"{file}\n" for file in files))
        return path


def auc(photographs: Sequence[float], generated: Sequence[float]) -> Interval:
    """Compute the area under the ROC curve, with a bootstrap interval over pictures."""

    def area(ours: Sequence[float], theirs: Sequence[float]) -> float:
        truth = [0] * len(ours) + [1] * len(theirs)
        return float(roc_auc_score(truth, [*ours, *theirs]))

    rng = np.random.default_rng(0)
    many = [
        area(rng.choice(photographs, len(photographs)), rng.choice(generated, len(generated)))
        for _ in range(N_BOOTSTRAPS)
    ]
    low, high = np.quantile(many, [0.025, 0.975])
    return area(photographs, generated), float(low), float(high)


def measure(
    bench: Bench, subject: str, model: Path, photographs: dict[str, list[Path]], generated: Path
) -> None:
    """Scan photographs and the generators of a folder; print AUC and flagged shares."""
    ours = {name: bench.scan(subject, model, files) for name, files in photographs.items()}
    every = [score for one in ours.values() for score in one.scores]
    rows = [[name, "photographs", len(one.scores), "-", f"{one.flagged:.0%}"] for name, one in ours.items()]
    for folder in sorted(generated.iterdir()):
        theirs = bench.scan(subject, model, sorted(folder.iterdir()))
        area = cell(auc(every, theirs.scores))
        rows.append([folder.name, "AI-generated", len(theirs.scores), area, f"{theirs.flagged:.0%}"])
    print(f"\n{subject}, {generated.parent.name}/{generated.name}\n")
    print(table(["set", "class", "pictures", "AUC", "flagged"], rows), flush=True)


def main() -> None:
    options = parser(__spec__, __doc__)
    options.add_argument("-o", "--output", type=Path, required=True)
    options.add_argument("--subject", choices=("image", "face"), default="image")
    options.add_argument("--evaluation", action="store_true", help="measure on evaluation/ as well")
    given = options.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    bench = Bench(given.output)
    say("training")
    bench.train()
    say("tags")
    pretext_tasks.report(bench.run, bench.index, [str(folder) for folder in bench.photographs])
    learned, kept = bench.lists()
    evaluation = bench.data / "evaluation"
    say(f"fitting: {given.subject}")
    model = bench.fit(given.subject, learned)
    measure(bench, given.subject, model, {"unseen cameras": kept}, bench.data / "ai-generated-train")
    if given.evaluation:
        folders = sorted((evaluation / "photographic").iterdir())
        photographs = {folder.name: sorted(folder.iterdir()) for folder in folders}
        measure(bench, given.subject, model, photographs, evaluation / "ai-generated")


if __name__ == "__main__":
    main()
