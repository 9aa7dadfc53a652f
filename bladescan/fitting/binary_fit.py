"""The binary head of either kind fitted: on standardised embeddings, for embeddings as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bladescan.heads.classifier import Classifier, ClassifierSettings, Grouped, fit_classifier
from bladescan.heads.logistic import fit_logistic
from bladescan.heads.mixture import Mixture
from bladescan.heads.standard import Standard

BINARY_HEADS = ("auto", "perceptron", "logistic")


class BinaryFit(NamedTuple):
    """A fitted binary head.

    Attributes:
        state: float32 weights, for embeddings as they are.
        settings: how it was fitted, for the manifest.
    """

    state: dict[str, Tensor]
    settings: dict[str, Any]


def fit_binary(
    kind: str,
    photographic: Grouped,
    ai_generated: Grouped,
    standard: Standard,
    mixture: Mixture | None,
    settings: ClassifierSettings,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BinaryFit:
    """Fit a binary head on standardised embeddings.

    Args:
        kind: ``perceptron`` or ``logistic``.
        photographic: embeddings as they are ``[n, d]``.
        ai_generated: embeddings as they are ``[m, d]``.
        standard: by which both are standardised.
        mixture: of standardised embeddings, to draw pseudo-outliers for the perceptron from.
        settings: of the perceptron; of its seed, both.
        progress: called with the steps done and the steps in all.

    Raises:
        DataError: too few embeddings of a class.
    """
    ours, theirs = (Grouped(standard.apply(p.embeddings), p.groups) for p in (photographic, ai_generated))
    about: dict[str, Any]
    if kind == "logistic":
        logistic = fit_logistic(ours, theirs, random_state=settings.random_state, progress=progress)
        state = logistic.state
        about = {"kind": kind, "penalty": logistic.penalty, "validation_loss": logistic.validation_loss}
    else:
        perceptron = fit_classifier(ours, theirs, mixture, settings, progress=progress)
        state = perceptron.state
        about = {
            "hidden": len(state["fc1.bias"]),
            "n_epochs": perceptron.n_epochs,
            "validation_loss": perceptron.validation_loss,
            "n_outliers": perceptron.n_outliers,
        }
    return BinaryFit(standard.folded_classifier(state), about)


def binary_scores(state: Mapping[str, Tensor], embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the binary head's photographic scores, -P(AI-generated), float64 ``[n]`` as of every backend.

    Args:
        state: weights of a `Classifier`.
        embeddings: ``[n, d]``.
    """
    model = Classifier.of(state)
    with torch.inference_mode():
        found: NDArray[np.float64] = -model.p_ai_generated(
            torch.from_numpy(embeddings.astype(np.float64))
        ).numpy()
    return found
