"""How far the features of encoder runs tell photographs from AI-generated faces, on sources not trained on.

    BLADESCAN_DATA=... python benchmarks/train_ablation.py INDEX.sqlite RUN... > table.md

Photographs of some sources are kept out of training (`HELD_OUT_SOURCES`, files in ``faces``); they stand
against the AI-generated faces of the *training* pool, so that a recipe may be chosen by this table. Both
sides get the same crop, size and JPEG quality, twice: at 224 pixels and quality 90, and through 128 pixels
and quality 75. ``random`` stands for the first run's encoder with its initial weights, ``statistics`` for
colour, sharpness and spectrum alone.

One-class: mixture of three Gaussians over 32 principal components of the photographs trained on. Binary:
logistic regression on those photographs and two generators, tested on the third. Columns are AUCs, averaged
over the generators.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import normalize

from bladescan.encoders import VisionEncoder
from bladescan.faces import open_face_detector
from bladescan.indexing import index_photographs
from bladescan.manifest import Preprocessing
from bladescan.photographs import Photograph, PhotographIndex, square
from bladescan.runs import load_encoder_run

HELD_OUT_SOURCES = (
    "csvconf",
    "ms_advocates",
    "openff",
    "djangocon2022",
    "interfaces_cc0",
    "sklearn_blog",
    "ols",
)
MATCHES = {"224 px, q90": (224, 90), "128 px, q75": (128, 75)}

Images = NDArray[np.uint8]
Features = NDArray[np.float64]


def groups(data: Path, index: PhotographIndex) -> dict[str, list[Photograph]]:
    """Photographs trained on, photographs of held-out sources, and each generator's faces."""
    files: dict[str, list[Path]] = {}
    with open(data / "manifest.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["pool"] == "train" and "/scenes/" not in row["path"]:
                files.setdefault(group(row), []).append(data / row["path"])
    files.pop("left out")
    return {
        name: [index.get(digest) for digest in index_photographs(paths, index, "auto").faces]
        for name, paths in files.items()
    }


def group(row: dict[str, str]) -> str:
    """Which group a row of the manifest belongs to."""
    if row["generator"] or row["source"] not in HELD_OUT_SOURCES:
        return row["generator"] or "photographs"
    return "held-out" if row["path"].startswith("faces/") else "left out"


def matched(photographs: list[Photograph], side: int, quality: int) -> Images:
    """Crops ``[n, 224, 224, 3]`` that all went through the same size and compression."""
    crops = []
    for photograph in photographs:
        crop = cv2.resize(
            square(photograph.pixels, photograph.box, 1.3), (side, side), interpolation=cv2.INTER_AREA
        )
        jpeg = cv2.imencode(".jpg", crop[..., ::-1].copy(), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        crops.append(cv2.resize(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), (224, 224))[..., ::-1])
    return np.stack(crops)


@torch.inference_mode()
def embed(encoder: VisionEncoder, crops: Images) -> Features:
    """Normalised embeddings ``[n, d]``."""
    p = Preprocessing()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (p.mean, p.std))
    parts = []
    for start in range(0, len(crops), 64):
        x = torch.from_numpy(crops[start : start + 64].copy()).permute(0, 3, 1, 2).float() / 255
        parts.append(normalize(encoder.eval()((x - mean) / std), dim=1))
    return torch.cat(parts).double().numpy()


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


def auc(photographic: NDArray[np.float64], generated: NDArray[np.float64]) -> float:
    """Area under the curve of scores that are higher for AI-generated faces."""
    truth = np.r_[np.zeros(len(photographic)), np.ones(len(generated))]
    return float(roc_auc_score(truth, np.r_[photographic, generated]))


def one_class(features: dict[str, Features], generator: str) -> float:
    """AUC of the mixture."""
    x = features["photographs"]
    pca = PCA(min(32, x.shape[1]), random_state=0).fit(x)
    mixture = GaussianMixture(3, reg_covar=1e-5, random_state=0, n_init=2).fit(pca.transform(x))
    score = {name: -mixture.score_samples(pca.transform(features[name])) for name in ("held-out", generator)}
    return auc(score["held-out"], score[generator])


def binary(features: dict[str, Features], generator: str, generators: list[str]) -> float:
    """AUC of a linear classifier that has not seen this generator."""
    known = np.concatenate([features[name] for name in generators if name != generator])
    x = np.concatenate([features["photographs"], known])
    truth = np.r_[np.zeros(len(features["photographs"])), np.ones(len(known))]
    linear = LogisticRegression(C=0.003, max_iter=500, class_weight="balanced")
    model = make_pipeline(StandardScaler(), linear).fit(x, truth)
    return auc(model.decision_function(features["held-out"]), model.decision_function(features[generator]))


def main(index_file: str, *run_names: str) -> None:
    data = Path(os.environ["BLADESCAN_DATA"])
    found = groups(data, PhotographIndex(Path(index_file), open_face_detector("auto").name))
    generators = sorted(set(found) - {"photographs", "held-out"})
    print(", ".join(f"{name} {len(items)}" for name, items in found.items()) + "\n")
    spec = load_encoder_run(Path(run_names[0])).manifest.encoder
    torch.manual_seed(0)
    encoders = {"random": VisionEncoder(spec.name, spec.width, spec.embedding_dim)}
    encoders |= {Path(name).name: load_encoder_run(Path(name)).encoder for name in run_names}
    kinds: dict[str, Callable[[Images], Features]] = {"statistics": statistics}
    kinds |= {name: lambda crops, e=encoder: embed(e, crops) for name, encoder in encoders.items()}
    print("| features | matched at | one-class | " + " | ".join(generators) + " | binary |", end=" ")
    print(" | ".join(generators) + " |\n|" + "---|" * (4 + 2 * len(generators)))
    for match, (side, quality) in MATCHES.items():
        crops = {name: matched(items, side, quality) for name, items in found.items()}
        for kind, extract in kinds.items():
            features = {name: extract(images) for name, images in crops.items()}
            scores = [one_class(features, g) for g in generators]
            linear = [binary(features, g, generators) for g in generators]
            cells = [np.mean(scores), *scores, np.mean(linear), *linear]
            print(f"| {kind} | {match} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
