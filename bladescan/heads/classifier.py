"""The binary head: a small perceptron from an embedding to P(AI-generated), and its training.

It sees embeddings only. It decides nothing: `bladescan.detectors.calibration` sets its false-alarm rate.

References:
    Zou et al., arXiv:2507.22824, section 3; Du et al., "VOS", ICLR 2022, for the pseudo-outliers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
"""Width of the hidden layer, twice that of the paper's embeddings."""

FEWEST = 10
"""Faces of each class below which no binary head is fitted."""
VALIDATION = 0.15
"""Share of each class that a binary head does not learn from, but is chosen by."""
_OUTLIER_CHUNK = 256


class Classifier(nn.Module):
    """MLP d -> hidden -> ReLU -> 2; output 1 is AI-generated.

    Args:
        embedding_dim: d.
        hidden: width of the hidden layer; 0 for none, which is logistic regression.
    """

    def __init__(self, embedding_dim: int = 768, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embedding_dim, hidden) if hidden else None
        self.fc2 = nn.Linear(hidden or embedding_dim, 2)

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Classifier:
        """Make the head of these weights, which have been checked."""
        layer = state.get("fc1.weight", state["fc2.weight"])
        head = cls(layer.shape[1], len(layer) if "fc1.weight" in state else 0)
        head.load_state_dict(dict(state))
        return head

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits ``[n, 2]`` of embeddings ``[n, d]``, computed in the dtype of ``x``."""
        # Weights stay float32 in files; a detector scores in float64 for rows that no batch size changes.
        return _linear(self.fc2, x if self.fc1 is None else torch.relu(_linear(self.fc1, x)))

    def p_ai_generated(self, x: Tensor) -> Tensor:
        """Compute P(AI-generated) ``[n]`` of embeddings ``[n, d]``: the softmax of two logits."""
        logits = self(x)
        # A power, not exp or sigmoid: runtimes compute those in SIMD packets with another last bit in the
        # remainder, so that a row would depend on its batch.
        return 1 / (1 + torch.pow(math.e, logits[:, 0] - logits[:, 1]))


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


class Grouped(NamedTuple):
    """Embeddings of one class.

    Attributes:
        embeddings: ``[n, d]``.
        groups: ``[n]``, those that must not be split apart share a value; None if all stand alone.
    """

    embeddings: NDArray[Any]
    groups: NDArray[Any] | None = None


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
    """Draw unlikely samples of the photographic mixture, which stand for unknown generators (VOS).

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


@dataclass(frozen=True, slots=True)
class ClassifierSettings:
    """How the binary head is trained.

    Attributes:
        normalise: whether embeddings lie on the unit sphere.
        n_outliers: pseudo-outliers; None for as many as AI-generated embeddings.
        max_epochs: most passes over the data.
        n_epochs_no_change: epochs without a lower validation loss that end the training.
        batch_size: embeddings a step.
        learning_rate: Adam's.
        random_state: seed; the same seed gives the same bits on the same machine.
    """

    normalise: bool = True
    n_outliers: int | None = None
    max_epochs: int = 100
    n_epochs_no_change: int = 10
    batch_size: int = 64
    learning_rate: float = 3e-4
    random_state: int = 0


def fit_classifier(
    photographic: Grouped,
    ai_generated: Grouped,
    mixture: Mixture | None,
    settings: ClassifierSettings = ClassifierSettings(),
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ClassifierFit:
    """Train the binary head: Adam, cross-entropy, both classes of the same total weight.

    A validation part, 15% of each class, stops the training when its loss has not fallen for
    ``n_epochs_no_change`` epochs; the weights of the best epoch are kept.

    Args:
        photographic: embeddings ``[n, d]``; those of one group are all validation or none.
        ai_generated: embeddings ``[m, d]``, the same.
        mixture: to draw pseudo-outliers from, None for none.
        settings: how to train.
        progress: called with the epochs done and the most there may be.

    Raises:
        DataError: too few embeddings of a class.
    """
    check_enough(photographic, ai_generated)
    rng = np.random.default_rng(settings.random_state)
    with one_thread():
        train, validation, n_outliers = _divided(photographic, ai_generated, mixture, settings, rng)
        model = _seeded_classifier(photographic.embeddings.shape[1], settings.random_state)
        best = _train(model, train, validation, settings, rng, progress)
    progress(settings.max_epochs, settings.max_epochs)
    return ClassifierFit(best.state, best.epoch, best.loss, n_outliers)


class _Best(NamedTuple):
    """Weights of the epoch with the lowest validation loss so far."""

    state: dict[str, Tensor]
    loss: float
    epoch: int


def check_enough(photographic: Grouped, ai_generated: Grouped) -> None:
    """Raise DataError if there are too few embeddings of a class."""
    for name, part in (("photographic", photographic), ("AI-generated", ai_generated)):
        n = len(part.embeddings)
        if n < FEWEST:
            raise DataError(f"{n} {name} faces: the binary head needs at least {FEWEST}")


def _divided(
    photographic: Grouped,
    ai_generated: Grouped,
    mixture: Mixture | None,
    settings: ClassifierSettings,
    rng: np.random.Generator,
) -> tuple[_Labelled, _Labelled, int]:
    """Divide both classes into training and validation, and add pseudo-outliers to the former."""
    ours, theirs = photographic.embeddings, ai_generated.embeddings
    held_p = hold_out(len(ours), VALIDATION, rng, photographic.groups)
    held_a = hold_out(len(theirs), VALIDATION, rng, ai_generated.groups)
    outliers = theirs[:0]
    if mixture is not None:
        n = len(theirs) if settings.n_outliers is None else settings.n_outliers
        outliers = draw_pseudo_outliers(mixture, n, rng, normalise=settings.normalise)
    train = _labelled(ours[~held_p], np.concatenate([theirs[~held_a], outliers]))
    return train, _labelled(ours[held_p], theirs[held_a]), len(outliers)


def _train(
    model: Classifier,
    train: _Labelled,
    validation: _Labelled,
    settings: ClassifierSettings,
    rng: np.random.Generator,
    progress: Callable[[int, int], None],
) -> _Best:
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    best = _Best(_copy(model), math.inf, 0)
    for epoch in range(1, settings.max_epochs + 1):
        progress(epoch - 1, settings.max_epochs)
        _train_epoch(model, optimiser, train, rng.permutation(len(train.labels)), settings.batch_size)
        loss = _validate(model, validation)
        if loss < best.loss:
            best = _Best(_copy(model), loss, epoch)
        elif epoch - best.epoch >= settings.n_epochs_no_change:
            break
    return best


def _seeded_classifier(embedding_dim: int, random_state: int) -> Classifier:
    """Draw the first weights, and leave PyTorch's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        return Classifier(embedding_dim)


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
