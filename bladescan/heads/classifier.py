"""The binary head: a small MLP from an embedding to P(AI-generated), and its training.

It sees embeddings only. It decides nothing: its false-alarm rate is set in `calibration`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bladescan.base.errors import DataError
from bladescan.detectors.calibration import hold_out
from bladescan.heads.mixture import Mixture, sample
from bladescan.heads.threads import one_thread

HIDDEN = 1536
"""Width of the hidden layer (METHOD 5)."""

FEWEST = 10
"""Faces of each class below which no binary head is fitted."""
_VALIDATION = 0.15
_OUTLIER_CHUNK = 256


class Classifier(nn.Module):
    """MLP d -> hidden -> ReLU -> 2; output 1 is AI-generated.

    Args:
        embedding_dim: d.
        hidden: width of the hidden layer.
    """

    def __init__(self, embedding_dim: int = 768, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embedding_dim, hidden)
        self.fc2 = nn.Linear(hidden, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[n, 2]`` of embeddings ``[n, d]``, computed in the dtype of ``x``."""
        # Weights stay float32 in files; a detector scores in float64 for rows that no batch size changes.
        return _linear(self.fc2, torch.relu(_linear(self.fc1, x)))

    def p_ai_generated(self, x: Tensor) -> Tensor:
        """P(AI-generated) ``[n]`` of embeddings ``[n, d]``: the softmax of two logits."""
        logits = self(x)
        # A power, not exp or sigmoid: runtimes compute those in SIMD packets with another last bit in the
        # remainder, so that a row would depend on its batch.
        return 1 / (1 + torch.pow(math.e, logits[:, 0] - logits[:, 1]))


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


class ClassifierFit(NamedTuple):
    """A trained MLP.

    Attributes:
        state: float32 weights ``fc1`` and ``fc2``, as they are stored.
        n_epochs: after which the validation loss was lowest; those weights are kept.
        validation_loss: weighted cross-entropy in nats at that epoch.
        n_outliers: pseudo-outliers that were drawn.
    """

    state: dict[str, Tensor]
    n_epochs: int
    validation_loss: float
    n_outliers: int


def draw_pseudo_outliers(
    mixture: Mixture, n: int, rng: np.random.Generator, *, normalise: bool = True, n_draws: int = 20
) -> NDArray[np.float32]:
    """Low-likelihood samples of the photographic mixture, which stand for unknown generators (VOS).

    Args:
        mixture: of photographic embeddings.
        n: how many.
        rng: of the draws.
        normalise: put samples on the unit sphere, where normalised embeddings lie.
        n_draws: samples drawn for each one kept; the lowest 1 / n_draws of them are.

    Returns:
        Float32 ``[n, d]``.

    References:
        Du et al., "VOS: Learning What You Don't Know by Virtual Outlier Synthesis", ICLR 2022.
    """
    kept = [np.empty((0, mixture.means_.shape[1]))]
    for start in range(0, n, _OUTLIER_CHUNK):
        size = min(_OUTLIER_CHUNK, n - start)
        drawn = sample(mixture, size * n_draws, rng)
        if normalise:
            drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        kept.append(drawn[np.argsort(mixture.score_samples(drawn), kind="stable")[:size]])
    return np.concatenate(kept).astype(np.float32)


def fit_classifier(
    photographic: NDArray[Any],
    ai_generated: NDArray[Any],
    mixture: Mixture | None,
    *,
    groups: NDArray[Any] | None = None,
    ai_groups: NDArray[Any] | None = None,
    normalise: bool = True,
    n_outliers: int | None = None,
    max_epochs: int = 100,
    patience: int = 10,
    batch_size: int = 64,
    learning_rate: float = 3e-4,
    random_state: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ClassifierFit:
    """Train the binary head (METHOD 5): Adam, cross-entropy, both classes of the same total weight.

    A validation part, 15% of each class, stops the training when its loss has not fallen for ``patience``
    epochs; the weights of the best epoch are kept.

    Args:
        photographic: embeddings ``[n, d]``.
        ai_generated: embeddings ``[m, d]``.
        mixture: to draw pseudo-outliers from, None for none.
        groups: ``[n]``, photographs of one group are all validation or none.
        ai_groups: ``[m]``, the same of the AI-generated.
        normalise: whether embeddings lie on the unit sphere.
        n_outliers: pseudo-outliers; None for as many as AI-generated embeddings.
        max_epochs: most passes over the data.
        patience: in epochs.
        batch_size: embeddings a step.
        learning_rate: Adam's.
        random_state: seed; the same seed gives the same bits on the same machine.
        progress: called with the epochs done and the most there may be.

    Raises:
        DataError: too few embeddings of a class.
    """
    for name, part in (("photographic", photographic), ("AI-generated", ai_generated)):
        if len(part) < FEWEST:
            raise DataError(f"{len(part)} {name} faces: the binary head needs at least {FEWEST}")
    rng = np.random.default_rng(random_state)
    with one_thread():
        held_p = hold_out(len(photographic), _VALIDATION, rng, groups)
        held_a = hold_out(len(ai_generated), _VALIDATION, rng, ai_groups)
        n_outliers = len(ai_generated) if n_outliers is None else n_outliers
        outliers = ai_generated[:0]
        if mixture is not None:
            outliers = draw_pseudo_outliers(mixture, n_outliers, rng, normalise=normalise)
        train = _labelled(photographic[~held_p], np.concatenate([ai_generated[~held_a], outliers]))
        validation = _labelled(photographic[held_p], ai_generated[held_a])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_state)
            model = Classifier(photographic.shape[1])
        optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
        best, best_loss, best_epoch = _copy(model), math.inf, 0
        for epoch in range(1, max_epochs + 1):
            progress(epoch - 1, max_epochs)
            _train_epoch(model, optimiser, train, rng.permutation(len(train.labels)), batch_size)
            loss = _validate(model, validation)
            if loss < best_loss:
                best, best_loss, best_epoch = _copy(model), loss, epoch
            elif epoch - best_epoch >= patience:
                break
    progress(max_epochs, max_epochs)
    return ClassifierFit(best, best_epoch, best_loss, len(outliers))


class _Labelled(NamedTuple):
    """Embeddings ``[n, d]``, labels ``[n]`` (1 is AI-generated) and the weight of each class ``[2]``."""

    embeddings: Tensor
    labels: Tensor
    weights: Tensor


def _labelled(photographic: NDArray[Any], ai_generated: NDArray[Any]) -> _Labelled:
    counts = torch.tensor([len(photographic), len(ai_generated)])
    embeddings = np.concatenate([photographic, ai_generated]).astype(np.float32)
    labels = torch.repeat_interleave(torch.tensor([0, 1]), counts)
    return _Labelled(torch.from_numpy(embeddings), labels, len(labels) / (2.0 * counts))


def _train_epoch(
    model: Classifier, optimiser: torch.optim.Optimizer, data: _Labelled, order: NDArray[Any], size: int
) -> None:
    for start in range(0, len(order), size):
        rows = torch.from_numpy(order[start : start + size])
        loss = nn.functional.cross_entropy(
            model(data.embeddings[rows]), data.labels[rows], weight=data.weights
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _validate(model: Classifier, data: _Labelled) -> float:
    with torch.inference_mode():
        logits = model(data.embeddings)
        return float(nn.functional.cross_entropy(logits, data.labels, weight=data.weights))


def _copy(model: Classifier) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}
