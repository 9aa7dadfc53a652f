"""How far the features of encoder runs tell photographs from AI-generated faces, on sources not trained on.

    BLADESCAN_DATA=... python -m benchmarks.quality.selection INDEX.sqlite RUN... > table.md

Photographs of some sources are kept out of training (`HELD_OUT_SOURCES`; `training_photographs` are the
others); those of them in ``faces`` stand against the AI-generated faces of the *training* pool, so that a
recipe may be chosen by this table. Both sides get the same crop, size and JPEG quality, twice: at 224 pixels
and quality 90, and through 128 pixels and quality 75. ``random`` and ``start`` stand for the encoder of the
first run's recipe before training, with random weights and with those that the recipe starts from;
``statistics`` for colour, sharpness and spectrum alone.

One-class: the Gaussian mixture of ``bladescan fit``, its covariance chosen by held-out likelihood, over the
photographs trained on. Binary: logistic regression on those photographs and all generators but the one that
is tested on. Columns are AUCs, averaged over the generators.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import normalize

from benchmarks.quality.pictures import HELD_OUT_SOURCES
from benchmarks.tables import heading, parser, row
from bladescan.detectors.manifest import FACE_RULE, Preprocessing
from bladescan.heads.mixture_fit import MixtureShape, fit_mixture
from bladescan.heads.threads import one_thread
from bladescan.images.jpeg import recompress_pixels
from bladescan.photographs.cutting import square
from bladescan.photographs.index import PhotographIndex
from bladescan.photographs.indexing import index_photographs, open_index
from bladescan.photographs.photograph import Photograph
from bladescan.tasks.recipe import LossRecipe, Recipe
from bladescan.tasks.recipe_files import load_recipe
from bladescan.training.runs import RECIPE_FILE, load_encoder_run
from bladescan.training.state import new_training_state

MATCHES = {"224 px, q90": (224, 90), "128 px, q75": (128, 75)}
"""Side and JPEG quality that both classes go through."""
PHOTOGRAPHS, HELD_OUT = "photographs", "held-out"
N_COMPONENTS = 10

Images = NDArray[np.uint8]
Features = NDArray[np.float64]


class Scores(NamedTuple):
    """What features come to.

    Attributes:
        one_class: AUC of the mixture by generator.
        binary: AUC of a classifier that has not seen the generator, by generator.
        shape: of the mixture.
    """

    one_class: dict[str, float]
    binary: dict[str, float]
    shape: MixtureShape


# Which pictures


def training_lines(data: Path) -> Iterator[dict[str, str]]:
    """The lines of the manifest that may be trained on."""
    with open(data / "manifest.csv", newline="") as file:
        yield from (line for line in csv.DictReader(file) if line["pool"] == "train")


def training_photographs(data: Path) -> list[Path]:
    """Photographs for ``bladescan train``, with a face or without: none of a held-out source."""
    lines = (line for line in training_lines(data) if not line["generator"])
    return [data / line["path"] for line in lines if line["source"] not in HELD_OUT_SOURCES]


def groups(data: Path, index: PhotographIndex) -> dict[str, list[Photograph]]:
    """Photographs trained on, photographs of held-out sources, and each generator's faces."""
    files: dict[str, list[Path]] = {}
    for line in training_lines(data):
        name = group(line)
        if name is not None:
            files.setdefault(name, []).append(data / line["path"])
    return {
        name: [index.get(digest) for digest in index_photographs(paths, index, "auto").faces]
        for name, paths in files.items()
    }


def group(line: Mapping[str, str]) -> str | None:
    """Which group a line of the manifest belongs to, if any."""
    if line["generator"]:
        return line["generator"]
    if "/scenes/" in line["path"]:
        return None
    if line["source"] not in HELD_OUT_SOURCES:
        return PHOTOGRAPHS
    return HELD_OUT if line["path"].startswith("faces/") else None


def matched(photographs: Iterable[Photograph], match: str) -> Images:
    """Crops ``[n, 224, 224, 3]`` that all went through the size and compression of one of `MATCHES`."""
    side, quality = MATCHES[match]
    crops = []
    for photograph in photographs:
        assert photograph.box is not None, "a face"
        crop = square(photograph.pixels, photograph.box, FACE_RULE.scale)
        small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
        crops.append(cv2.resize(recompress_pixels(np.asarray(small, np.uint8), quality), (224, 224)))
    return np.stack(crops)


# Features


@torch.inference_mode()
def embed(encoder: nn.Module, crops: Images, p: Preprocessing) -> Features:
    """Normalised embeddings ``[n, d]``."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (p.mean, p.std))
    parts = []
    for start in range(0, len(crops), 64):
        x = torch.from_numpy(crops[start : start + 64].copy()).permute(0, 3, 1, 2).float() / 255
        parts.append(normalize(encoder.eval()((x - mean) / std), dim=1))
    return torch.cat(parts).double().numpy()


def untrained(recipe: Recipe) -> nn.Module:
    """The vision encoder that a training by this recipe begins with."""
    # How ordinal tags are learned changes no weight; to align them would take photographs.
    return new_training_state(replace(recipe, losses=LossRecipe()), torch.device("cpu")).model.vision


def statistics(crops: Images) -> Features:
    """Colour, sharpness and radial spectrum ``[n, 28]``: what any picture shows without a face being seen."""
    y, x = np.indices((224, 224)) - 112
    radius = np.hypot(x, y).astype(int).ravel()
    rows = []
    for crop in crops:
        lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(np.float32)
        edges = np.log1p(np.abs(cv2.Laplacian(lab, cv2.CV_32F))).mean((0, 1))
        steps = np.log1p(np.abs(np.diff(lab, axis=0))).mean((0, 1))
        spectrum = np.abs(np.fft.fftshift(np.fft.fft2(lab[..., 0] - lab[..., 0].mean()))).ravel()
        rings = np.log1p(np.bincount(radius, spectrum)[:112:7])
        rows.append(np.concatenate([lab.mean((0, 1)), lab.std((0, 1)), edges, steps, rings]))
    return np.array(rows, np.float64)


# Scores


def auc(photographic: NDArray[np.float64], generated: NDArray[np.float64]) -> float:
    """Area under the curve of scores that are higher for AI-generated faces."""
    targets = np.r_[np.zeros(len(photographic)), np.ones(len(generated))]
    return float(roc_auc_score(targets, np.r_[photographic, generated]))


def score(features: Mapping[str, Features], n_components: int = N_COMPONENTS) -> Scores:
    """Both heads on the features of every group; ``n_components`` is the most that the mixture may have."""
    generators = sorted(set(features) - {PHOTOGRAPHS, HELD_OUT})
    fit = fit_mixture(features[PHOTOGRAPHS], covariance_type="auto", n_components=n_components)
    surprise = {name: -fit.mixture.score_samples(features[name]) for name in (HELD_OUT, *generators)}
    one_class = {name: auc(surprise[HELD_OUT], surprise[name]) for name in generators}
    with one_thread():
        return Scores(one_class, {name: binary(features, name, generators) for name in generators}, fit.shape)


def binary(features: Mapping[str, Features], generator: str, generators: list[str]) -> float:
    """AUC of a linear classifier that has not seen this generator."""
    known = np.concatenate([features[name] for name in generators if name != generator])
    x = np.concatenate([features[PHOTOGRAPHS], known])
    targets = np.r_[np.zeros(len(features[PHOTOGRAPHS])), np.ones(len(known))]
    linear = LogisticRegression(C=0.003, max_iter=500, class_weight="balanced")
    model = make_pipeline(StandardScaler(), linear).fit(x, targets)
    return auc(model.decision_function(features[HELD_OUT]), model.decision_function(features[generator]))


def extractors(runs: Iterable[Path]) -> dict[str, Callable[[Images], Features]]:
    """How features are made, by name: without a face, before training, and by every run."""
    loaded = {run.name: load_encoder_run(run) for run in runs}
    first = load_recipe(str(next(iter(runs)) / RECIPE_FILE))
    encoders = {"random": untrained(replace(first, encoder=replace(first.encoder, weights=None)))}
    if first.encoder.weights is not None:
        encoders["start"] = untrained(first)
    encoders |= {name: run.encoder for name, run in loaded.items()}
    p = next(iter(loaded.values())).manifest.preprocessing
    found: dict[str, Callable[[Images], Features]] = {"statistics": statistics}
    return found | {name: lambda crops, e=encoder: embed(e, crops, p) for name, encoder in encoders.items()}


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__spec__, __doc__)
    options.add_argument("index", type=Path, metavar="INDEX.sqlite")
    options.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    asked = options.parse_args(argv)
    found = groups(Path(os.environ["BLADESCAN_DATA"]), open_index(asked.index, "auto"))
    generators = sorted(set(found) - {PHOTOGRAPHS, HELD_OUT})
    print(", ".join(f"{name} {len(items)}" for name, items in found.items()) + "\n")
    kinds = extractors(asked.runs)
    print(heading("features", "matched at", "one-class", *generators, "binary", *generators))
    for match in MATCHES:
        crops = {name: matched(items, match) for name, items in found.items()}
        for kind, extract in kinds.items():
            scores = score({name: extract(images) for name, images in crops.items()})
            heads = [list(head.values()) for head in (scores.one_class, scores.binary)]
            means = [value for head in heads for value in (np.mean(head), *head)]
            print(row(kind, match, *(f"{value:.2f}" for value in means)), flush=True)


if __name__ == "__main__":
    main()
