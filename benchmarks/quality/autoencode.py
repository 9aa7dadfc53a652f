"""How far the coarse task's own answer tells photographs from AI-generated faces, by generator.

    BLADESCAN_DATA=... python -m benchmarks.quality.autoencode INDEX.sqlite RUN... > table.md

No run has seen an AI-generated picture. Two scores of each: *coarse*, the logit of "manipulated" against
"photographic", and *mixture*, the one-class head's: ten diagonal Gaussians over the embeddings of photographs
that were trained on. Cells are AUCs. On the training pool, photographs of `HELD_OUT_SOURCES` stand against
the generators of that pool, as in `selection`; with ``--evaluation``, those of the evaluation set do. Both
sides get the same crop, size and JPEG quality, in the two ways of `MATCHES`. The last column is the accuracy
of the coarse task at the end of the run, on photographs that it kept out: of telling reconstructions, or
other manipulations, from untouched faces.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.quality.selection import (
    HELD_OUT,
    MATCHES,
    N_COMPONENTS,
    PHOTOGRAPHS,
    Images,
    auc,
    groups,
    matched,
    training_photographs,
    untrained,
)
from benchmarks.tables import heading, parser, row
from bladescan.heads.mixture_fit import fit_mixture
from bladescan.networks.encoders import VISION_PREFIX, load_vision_state, without_prefix
from bladescan.networks.weights import read_safetensors
from bladescan.photographs.index import PhotographIndex
from bladescan.photographs.indexing import index_photographs, open_index
from bladescan.photographs.photograph import Photograph
from bladescan.pretext.model import PretextModel, coarse_outputs
from bladescan.tasks.pretext_tasks import COARSE
from bladescan.tasks.recipe_files import load_recipe
from bladescan.training.runs import ENCODER_FILE, HEAD_PREFIX, RECIPE_FILE, read_history

Scores = NDArray[np.float64]


def trained(run: Path) -> PretextModel:
    """The model of a finished run: its encoder and the head that answers the tasks."""
    model = PretextModel(load_recipe(str(run / RECIPE_FILE)))
    tensors, _ = read_safetensors(run / ENCODER_FILE)
    load_vision_state(model.vision, without_prefix(tensors, VISION_PREFIX), where=str(run))
    model.head.load_state_dict(without_prefix(tensors, HEAD_PREFIX))
    return model.eval()


@torch.inference_mode()
def embeddings(model: PretextModel, encoder: nn.Module, crops: Images) -> Scores:
    """Raw embeddings ``[n, d]``, pixels normalised as the model does."""
    parts = []
    for start in range(0, len(crops), 32):
        x = torch.from_numpy(crops[start : start + 32]).permute(0, 3, 1, 2).float() / 255
        parts.append(encoder((x - model.mean) / model.std))
    return torch.cat(parts).double().numpy()


@torch.inference_mode()
def coarse_logits(model: PretextModel, embedded: Scores) -> Scores:
    """How much more manipulated than photographic, ``[n]``."""
    outputs = model.head(torch.from_numpy(embedded).float())[:, model.columns[COARSE]]
    photographic, manipulated = coarse_outputs(outputs).unbind(1)
    return (manipulated - photographic).double().numpy()


def surprises(embedded: Mapping[str, Scores]) -> dict[str, Scores]:
    """How unlikely each group is to the mixture of the photographs trained on."""
    fit = fit_mixture(embedded[PHOTOGRAPHS], covariance_type="diag", n_components=N_COMPONENTS)
    return {name: -fit.mixture.score_samples(one) for name, one in embedded.items()}


def evaluation_groups(data: Path, index: PhotographIndex) -> dict[str, list[Photograph]]:
    """Photographs trained on; photographs and each generator's faces of the evaluation set."""
    files: dict[str, list[Path]] = {PHOTOGRAPHS: training_photographs(data)}
    with open(data / "manifest.csv", newline="") as file:
        for line in csv.DictReader(file):
            if line["path"].startswith("evaluation/"):
                files.setdefault(line["generator"] or HELD_OUT, []).append(data / line["path"])
    return {
        name: [index.get(digest) for digest in index_photographs(paths, index, "auto").faces]
        for name, paths in files.items()
    }


def accuracy(run: Path) -> str:
    """Accuracy of the coarse task on the photographs that the run kept out, at its end."""
    lines = [line["held_out"] for line in read_history(run) if "held_out" in line]
    return f"{lines[-1][COARSE]['accuracy']:.2f}" if lines and COARSE in lines[-1] else ""


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__spec__, __doc__)
    options.add_argument("index", type=Path, metavar="INDEX.sqlite")
    options.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    options.add_argument("--evaluation", action="store_true", help="measure on the evaluation set")
    options.add_argument("--start", action="store_true", help="also the first run's encoder before training")
    options.add_argument("--fitted", type=int, default=400, help="photographs of the mixture, at most")
    options.add_argument("--matches", nargs="+", choices=MATCHES, default=list(MATCHES))
    asked = options.parse_args(argv)
    choose = evaluation_groups if asked.evaluation else groups
    found = choose(Path(os.environ["BLADESCAN_DATA"]), open_index(asked.index, "auto"))
    found[PHOTOGRAPHS] = found[PHOTOGRAPHS][:: -(-len(found[PHOTOGRAPHS]) // asked.fitted)]
    generators = sorted(set(found) - {PHOTOGRAPHS, HELD_OUT})
    print(", ".join(f"{name} {len(items)}" for name, items in found.items()) + "\n")
    print(heading("run", "matched at", "score", "mean", *generators, "coarse accuracy"))
    for match in asked.matches:
        crops = {name: matched(items, match) for name, items in found.items()}
        if asked.start:
            recipe = load_recipe(str(asked.runs[0] / RECIPE_FILE))
            before, encoder = PretextModel(recipe), untrained(recipe).eval()
            embedded = {name: embeddings(before, encoder, images) for name, images in crops.items()}
            report("start", match, "mixture", surprises(embedded), generators, "")
        for run in asked.runs:
            model = trained(run)
            embedded = {name: embeddings(model, model.vision, images) for name, images in crops.items()}
            logits = {name: coarse_logits(model, one) for name, one in embedded.items()}
            report(run.name, match, "mixture", surprises(embedded), generators, "")
            report(run.name, match, "coarse", logits, generators, accuracy(run))


def report(
    name: str, match: str, kind: str, scores: Mapping[str, Scores], generators: Sequence[str], told: str
) -> None:
    """Print one line."""
    aucs = [auc(scores[HELD_OUT], scores[generator]) for generator in generators]
    print(row(name, match, kind, *(f"{value:.2f}" for value in (np.mean(aucs), *aucs)), told), flush=True)


if __name__ == "__main__":
    main()
