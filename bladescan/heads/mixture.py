"""The one-class head: a Gaussian mixture over photographic embeddings, its fit and its log-likelihood.

Scoring is written here, in float64, so that the PyTorch detector and the exported graph compute the same;
scikit-learn fits and is the reference in the tests. It sets no false-alarm rate: that is `calibration`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bladescan.base.errors import DataError, UnknownNameError, UsageError, first_line

COVARIANCES = ("full", "tied", "diag", "spherical")
"""Covariance types of scikit-learn; ``auto`` chooses among them."""

SHRINKAGES = (0.0, 0.02, 0.1, 0.3, 0.6, 0.9, 1.0)
"""Shares of the diagonal that are tried when the shrinkage is chosen by held-out likelihood."""

_COMPONENTS = (1, 3, 10)
_N_FOLDS = 3
_CHUNK = 256


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """A fitted Gaussian mixture. Tensors are float32 as stored; scores are float64.

    With P P^T the precision (inverse covariance) of a component, P is its precision Cholesky factor.

    Attributes:
        weights: ``[k]``, positive, sum 1.
        means: ``[k, d]``.
        precisions_cholesky: ``[k, d, d]`` upper triangular, ``[1, d, d]`` if all components share one, or
            ``[k, d]`` if it is diagonal.
    """

    weights: Tensor
    means: Tensor
    precisions_cholesky: Tensor

    def score_samples(self, embeddings: NDArray[Any]) -> NDArray[np.float64]:
        """Log-likelihood of each row of ``[n, d]``, float64 ``[n]``; higher is more photographic."""
        rows = np.asarray(embeddings, np.float64)
        constants = log_constants(self.weights, self.precisions_cholesky)
        means, factors = self.means.double(), self.precisions_cholesky.double()
        scores = [
            log_likelihood(torch.from_numpy(rows[i : i + _CHUNK]), constants, means, factors)
            for i in range(0, len(rows), _CHUNK)
        ]
        return torch.cat(scores).numpy() if scores else np.empty(0)

    def state(self) -> dict[str, Tensor]:
        """The tensors by name, as stored."""
        return {
            "weights": self.weights,
            "means": self.means,
            "precisions_cholesky": self.precisions_cholesky,
        }


def log_constants(weights: Tensor, precisions_cholesky: Tensor) -> Tensor:
    r"""What does not depend on the sample: :math:`\log w_k + \log |P_k| - \tfrac d2 \log 2\pi`.

    Args:
        weights: ``[k]``.
        precisions_cholesky: as in `Mixture`.

    Returns:
        Float64 ``[k]``.
    """
    factors = precisions_cholesky.double()
    diagonal = factors.diagonal(dim1=-2, dim2=-1) if factors.ndim == 3 else factors  # [k or 1, d]
    return weights.double().log() + diagonal.log().sum(-1) - 0.5 * factors.shape[-1] * math.log(2 * math.pi)


def log_likelihood(x: Tensor, constants: Tensor, means: Tensor, precisions_cholesky: Tensor) -> Tensor:
    r"""Log-density of a Gaussian mixture.

    .. math:: \log \sum_k \exp(c_k - \tfrac12 \lVert (x - \mu_k) P_k \rVert^2)

    Args:
        x: ``[n, d]``.
        constants: :math:`c`, ``[k]``, of `log_constants`.
        means: ``[k, d]``.
        precisions_cholesky: as in `Mixture`.

    Returns:
        ``[n]``, of the dtype of the arguments.
    """
    centred = x - means[:, None]  # [k, n, d]
    if precisions_cholesky.ndim == 3:
        whitened = centred @ precisions_cholesky
    else:
        whitened = centred * precisions_cholesky[:, None]
    joint = (constants[:, None] - 0.5 * (whitened * whitened).sum(-1)).T  # [n, k]
    # Not exp, sum, log: runtimes compute those in SIMD packets with another last bit in the remainder, so
    # that a row would depend on its batch. Their log-sum-exp goes row by row.
    return torch.logsumexp(joint, -1)


def sample(mixture: Mixture, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw ``[n, d]`` from the mixture, component by component."""
    weights = mixture.weights.double().numpy()
    counts = rng.multinomial(n, weights / weights.sum())
    factors, k = mixture.precisions_cholesky.double(), len(weights)
    means = mixture.means.double().numpy()
    parts = []
    for i in range(k):
        z = torch.from_numpy(rng.standard_normal((counts[i], means.shape[1])))
        factor = factors[i % len(factors)]  # one for all if tied
        if factor.ndim == 2:
            # cov = P^-T P^-1, so x - mean = P^-T z solves P^T y = z; samples are rows.
            z = torch.linalg.solve_triangular(factor, z, upper=True, left=False)
        else:
            z = z / factor
        parts.append(means[i] + z.numpy())
    return np.concatenate(parts)


def to_scikit_learn(mixture: Mixture) -> Any:
    """The mixture as a fitted ``sklearn.mixture.GaussianMixture``, to compare and to sample with."""
    from sklearn.mixture import GaussianMixture

    factors = mixture.precisions_cholesky.double().numpy()
    k = len(mixture.weights)
    kind = "diag" if factors.ndim == 2 else "full" if len(factors) == k else "tied"
    model = GaussianMixture(k, covariance_type=kind)
    model.weights_ = mixture.weights.double().numpy()
    model.means_ = mixture.means.double().numpy()
    model.precisions_cholesky_ = factors[0] if kind == "tied" else factors
    return model


class Shape(NamedTuple):
    """What is chosen of a mixture before its fit.

    Attributes:
        covariance: one of `COVARIANCES`.
        n_components: Gaussians.
        shrinkage: in [0, 1]; covariances become (1 - shrinkage) C + shrinkage diag(C).
    """

    covariance: str
    n_components: int
    shrinkage: float


@dataclass(frozen=True, slots=True, eq=False)
class MixtureFit:
    """A fitted mixture and how it came about.

    Attributes:
        mixture: rounded to float32, as it is stored.
        shape: what was fitted.
        paper_threshold: METHOD 5: the training log-likelihood at index int(0.05 n) of the sorted ones.
        held_out: mean held-out log-likelihood of every shape that was tried, best first; empty if none was.
        notices: lines for the user.
    """

    mixture: Mixture
    shape: Shape
    paper_threshold: float
    held_out: tuple[tuple[Shape, float], ...]
    notices: tuple[str, ...]


def fit_mixture(
    embeddings: NDArray[Any],
    *,
    covariance: str = "full",
    n_components: int = 10,
    shrinkage: float | None = None,
    groups: NDArray[Any] | None = None,
    n_photographs: int | None = None,
    random_state: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MixtureFit:
    """Fit a Gaussian mixture to photographic embeddings by expectation maximisation (METHOD 5).

    ``auto`` tries every covariance type with 1, 3, 10 and ``n_components`` components, at most
    ``n_components``, and full and tied ones with every shrinkage, and takes the shape with the highest
    cross-validated log-likelihood.

    Args:
        embeddings: ``[n_samples, n_features]``.
        covariance: one of `COVARIANCES`, or ``auto``.
        n_components: Gaussians; with ``auto`` at most so many.
        shrinkage: towards the diagonal, for full and tied covariances; None for 0 as in the paper, or
            under ``auto`` for a choice.
        groups: ``[n_samples]``; samples of one group stay in one fold.
        n_photographs: how many samples, the first, are photographs; the others are copies of them, which
            teach but do not count. None: all.
        random_state: seed; the same seed gives the same bits on the same machine.
        progress: called with the fits done and the fits in all.

    Raises:
        UsageError: an argument is out of range.
        DataError: too few samples, or values that no mixture fits.
    """
    x = np.asarray(embeddings, np.float64)
    n = len(x) if n_photographs is None else n_photographs
    _check_arguments(x[:n], covariance, n_components, shrinkage)
    with one_thread():
        return _fit(x, n, covariance, n_components, shrinkage, groups, random_state, progress)


def _fit(
    x: NDArray[np.float64],
    n_photographs: int,
    covariance: str,
    n_components: int,
    shrinkage: float | None,
    groups: NDArray[Any] | None,
    random_state: int,
    progress: Callable[[int, int], None],
) -> MixtureFit:
    tried: tuple[tuple[Shape, float], ...] = ()
    if covariance == "auto":
        tried = _cross_validate(x, n_components, shrinkage, groups, random_state, progress)
        shape = tried[0][0]
    else:
        shape = Shape(covariance, n_components, (shrinkage or 0.0) if _can_shrink(covariance) else 0.0)
    model = _expectation_maximisation(x, shape.covariance, shape.n_components, random_state)
    mixture = _shrunk(model, shape)
    training = np.sort(mixture.score_samples(x[:n_photographs]))
    paper_threshold = float(training[int(0.05 * n_photographs)])
    notices = tuple(_notices(model, shape, n_photographs, x.shape[1]))
    return MixtureFit(mixture, shape, paper_threshold, tried, notices)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, and put the process back as it was.

    Sums then come out with the same bits whatever the number of cores, and threads that wait for each
    other on a busy machine do not make a fit ten times as long.
    """
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)


def _check_arguments(x: NDArray[Any], covariance: str, n_components: int, shrinkage: float | None) -> None:
    if covariance not in (*COVARIANCES, "auto"):
        raise UnknownNameError("covariance", covariance, (*COVARIANCES, "auto"))
    if n_components < 1:
        raise UsageError(f"a mixture needs at least 1 component, got {n_components}")
    if shrinkage is not None and not 0.0 <= shrinkage <= 1.0:
        raise UsageError(f"the shrinkage must lie in [0, 1], got {shrinkage:g}")
    if x.ndim != 2 or not np.isfinite(x).all():
        raise DataError(f"embeddings must be finite [n, d], got {list(x.shape)}")
    if len(x) < max(2, n_components if covariance != "auto" else 2 * _N_FOLDS):
        raise DataError(f"{len(x)} photographs are too few for a mixture of {n_components} components")


def _can_shrink(covariance: str) -> bool:
    return covariance in ("full", "tied")


def _expectation_maximisation(x: NDArray[Any], covariance: str, k: int, random_state: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(k, covariance_type=covariance, init_params="k-means++", random_state=random_state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told by a notice
        try:
            return model.fit(x)
        except ValueError as exc:
            raise DataError(f"no mixture fits these embeddings: {first_line(exc)}") from exc


def _shrunk(model: Any, shape: Shape) -> Mixture:
    """The fitted scikit-learn model with its covariances shrunk, rounded to float32."""
    covariances = model.covariances_
    if shape.covariance == "spherical":
        covariances = np.repeat(covariances[:, None], model.means_.shape[1], axis=1)
    if _can_shrink(shape.covariance):
        stack = covariances.reshape(-1, *covariances.shape[-2:])
        factors = np.stack([_precision_cholesky(c, shape.shrinkage) for c in stack])
    else:
        factors = 1.0 / np.sqrt(covariances)
    return Mixture(*(torch.from_numpy(a).float() for a in (model.weights_, model.means_, factors)))


def _precision_cholesky(covariance: NDArray[Any], shrinkage: float) -> NDArray[np.float64]:
    """Upper triangular P with P P^T the inverse of the shrunk covariance."""
    from scipy.linalg import cholesky, solve_triangular

    shrunk = (1.0 - shrinkage) * covariance
    np.fill_diagonal(shrunk, covariance.diagonal())
    lower = cholesky(shrunk, lower=True)
    factor: NDArray[np.float64] = solve_triangular(lower, np.eye(len(lower)), lower=True).T
    return factor


def _cross_validate(
    x: NDArray[Any],
    n_components: int,
    shrinkage: float | None,
    groups: NDArray[Any] | None,
    random_state: int,
    progress: Callable[[int, int], None],
) -> tuple[tuple[Shape, float], ...]:
    """Mean held-out log-likelihood of every candidate shape, best first."""
    folds = _folds(np.arange(len(x)) if groups is None else groups, random_state)
    totals: dict[Shape, float] = {}
    fewest = len(x) - int(np.bincount(folds).max())  # samples that a fold leaves to fit on
    most = max(1, min(n_components, fewest // 2))
    counts = sorted({min(c, most) for c in (*_COMPONENTS, n_components)})
    jobs = [(kind, k, fold) for kind in COVARIANCES for k in counts for fold in range(_N_FOLDS)]
    for done, (kind, k, fold) in enumerate(jobs):
        progress(done, len(jobs))
        model = _expectation_maximisation(x[folds != fold], kind, k, random_state)
        for shape in _shapes(kind, k, shrinkage):
            score = float(_shrunk(model, shape).score_samples(x[folds == fold]).sum())
            totals[shape] = totals.get(shape, 0.0) + score
    progress(len(jobs), len(jobs))
    ranked = sorted(totals.items(), key=lambda item: -item[1])
    return tuple((shape, total / len(x)) for shape, total in ranked)


def _shapes(covariance: str, n_components: int, shrinkage: float | None) -> Iterator[Shape]:
    if not _can_shrink(covariance):
        yield Shape(covariance, n_components, 0.0)
        return
    for share in SHRINKAGES if shrinkage is None else (shrinkage,):
        yield Shape(covariance, n_components, share)


def _folds(groups: NDArray[Any], random_state: int) -> NDArray[np.int64]:
    """A fold for each sample; groups go, in random order, to the fold that is smallest by then."""
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(counts) < _N_FOLDS:
        raise DataError(
            f"the photographs form {len(counts)} groups: covariance auto needs at least {_N_FOLDS}"
        )
    sizes = np.zeros(_N_FOLDS, np.int64)
    fold_of = np.zeros(len(counts), np.int64)
    for group in np.random.default_rng(random_state).permutation(len(counts)):
        fold_of[group] = sizes.argmin()
        sizes[fold_of[group]] += counts[group]
    return fold_of[inverse]


def _notices(model: Any, shape: Shape, n: int, d: int) -> Iterator[str]:
    if not model.converged_:
        yield f"the mixture had not converged after {model.max_iter} iterations"
    per_covariance = n // shape.n_components if shape.covariance == "full" else n
    if _can_shrink(shape.covariance) and per_covariance <= d and shape.shrinkage == 0.0:
        yield (
            f"the {shape.covariance} covariance is degenerate: {per_covariance} photographs for each matrix "
            f"over {d} dimensions; more photographs, or --covariance diag, would be sounder"
        )
