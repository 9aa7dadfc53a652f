"""The other binary head: logistic regression, for embeddings that were learned elsewhere.

scikit-learn fits it; how strongly it is regularised is chosen by the loss on a part that it has not seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bladescan.detectors.calibration import hold_out
from bladescan.heads.classifier import VALIDATION, Grouped, check_enough
from bladescan.heads.threads import one_thread

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Values of C that are tried, the inverse of the strength, for embeddings of deviation 1."""

_MOST_STEPS = 500


class LogisticFit(NamedTuple):
    """A fitted logistic regression.

    Attributes:
        state: float32 ``fc2`` of a `bladescan.heads.classifier.Classifier` without a hidden layer.
        penalty: the C that was chosen.
        validation_loss: cross-entropy of the validation part in nats, both classes of the same weight.
    """

    state: dict[str, Tensor]
    penalty: float
    validation_loss: float


def fit_logistic(
    photographic: Grouped,
    ai_generated: Grouped,
    *,
    random_state: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LogisticFit:
    """Fit logistic regression, both classes of the same total weight.

    15% of each class choose C; the fit that is kept has all.

    Args:
        photographic: embeddings ``[n, d]`` of about deviation 1; those of one group are on one side.
        ai_generated: embeddings ``[m, d]``, the same.
        random_state: seed of the draw.
        progress: called with the fits done and the fits in all.

    Raises:
        DataError: too few embeddings of a class.
    """
    check_enough(photographic, ai_generated)
    rng = np.random.default_rng(random_state)
    both = (photographic, ai_generated)
    held = np.concatenate([hold_out(len(p.embeddings), VALIDATION, rng, p.groups) for p in both])
    x = np.concatenate([p.embeddings for p in both]).astype(np.float32)
    y = np.repeat([0, 1], [len(p.embeddings) for p in both])
    losses = []
    with one_thread():
        for done, penalty in enumerate(PENALTIES):
            progress(done, len(PENALTIES) + 1)
            losses.append(_loss(_fitted(x[~held], y[~held], penalty), x[held], y[held]))
        best = int(np.argmin(losses))
        progress(len(PENALTIES), len(PENALTIES) + 1)
        model = _fitted(x, y, PENALTIES[best])
    progress(len(PENALTIES) + 1, len(PENALTIES) + 1)
    return LogisticFit(_state(model), PENALTIES[best], losses[best])


def _fitted(x: NDArray[np.float32], y: NDArray[Any], penalty: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the loss on the validation part judges it
        return LogisticRegression(C=penalty, class_weight="balanced", max_iter=_MOST_STEPS).fit(x, y)


def _loss(model: Any, x: NDArray[np.float32], y: NDArray[Any]) -> float:
    logit = model.decision_function(x).astype(np.float64)
    loss = np.logaddexp(0.0, np.where(y == 1, -logit, logit))
    return float(np.mean([loss[y == label].mean() for label in (0, 1)]))


def _state(model: Any) -> dict[str, Tensor]:
    weight = np.concatenate([np.zeros_like(model.coef_), model.coef_])
    bias = np.concatenate([np.zeros_like(model.intercept_), model.intercept_])
    return {"fc2.weight": torch.from_numpy(weight).float(), "fc2.bias": torch.from_numpy(bias).float()}
