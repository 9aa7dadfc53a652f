"""The fit of the one-class head: expectation maximisation, and the choice of a shape by held-out likelihood.

scikit-learn fits; the tests compare with it. No false-alarm rate is set here: that is
`bladescan.detectors.calibration`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bladescan.base.errors import DataError, UnknownNameError, UsageError, first_line
from bladescan.heads.mixture import Mixture
from bladescan.heads.threads import one_thread

COVARIANCES = ("full", "tied", "diag", "spherical")
"""Covariance types of scikit-learn; ``auto`` chooses among them."""

SHRINKAGES = (0.0, 0.02, 0.1, 0.3, 0.6, 0.9, 1.0)
"""Shares of the diagonal that are tried when the shrinkage is chosen by held-out likelihood."""

_COMPONENTS = (1, 3, 10)
_N_FOLDS = 3
MOST_FOR_MATRICES = 1536
"""Numbers of an embedding above which ``auto`` tries no covariance matrices, and few components: each matrix
would take hours to fit and hundreds of megabytes to keep, with too few photographs to tell what is in it."""


class MixtureShape(NamedTuple):
    """The choices before the fit of a mixture.

    Attributes:
        covariance_type: one of `COVARIANCES`.
        n_components: Gaussians.
        shrinkage: in [0, 1]; covariances become (1 - shrinkage) C + shrinkage diag(C).
    """

    covariance_type: str
    n_components: int
    shrinkage: float


@dataclass(frozen=True, slots=True, eq=False)
class MixtureFit:
    """A fitted mixture and how it came about.

    Attributes:
        mixture: rounded to float32, as it is stored.
        shape: what was fitted.
        paper_threshold: of the sorted training log-likelihoods the one at index int(0.05 n).
        held_out: mean held-out log-likelihood of every shape that was tried, best first; empty if none was.
        notices: lines for the user.
    """

    mixture: Mixture
    shape: MixtureShape
    paper_threshold: float
    held_out: tuple[tuple[MixtureShape, float], ...]
    notices: tuple[str, ...]


def fit_mixture(
    embeddings: NDArray[Any],
    *,
    covariance_type: str = "full",
    n_components: int = 10,
    shrinkage: float | None = None,
    groups: NDArray[Any] | None = None,
    n_photographs: int | None = None,
    random_state: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MixtureFit:
    """Fit a Gaussian mixture to photographic embeddings by expectation maximisation.

    ``auto`` tries every covariance type with 1, 3, 10 and ``n_components`` components, at most
    ``n_components``, and full and tied ones with every shrinkage, and takes the shape with the highest
    cross-validated log-likelihood. Full covariances that have fewer samples than dimensions each are left
    out. Of embeddings longer than `MOST_FOR_MATRICES` it tries diagonal and spherical ones with 1 and 3
    components.

    Args:
        embeddings: ``[n_samples, n_features]``.
        covariance_type: one of `COVARIANCES`, or ``auto``.
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

    References:
        Zou et al., arXiv:2507.22824, section 3 (one-class detection, full covariances, ten components).
    """
    x = np.asarray(embeddings, np.float64)
    n = len(x) if n_photographs is None else n_photographs
    _check_arguments(x[:n], covariance_type, n_components, shrinkage)
    with one_thread():
        return _fit(x, n, covariance_type, n_components, shrinkage, groups, random_state, progress)


def _fit(
    x: NDArray[np.float64],
    n_photographs: int,
    covariance_type: str,
    n_components: int,
    shrinkage: float | None,
    groups: NDArray[Any] | None,
    random_state: int,
    progress: Callable[[int, int], None],
) -> MixtureFit:
    tried: tuple[tuple[MixtureShape, float], ...] = ()
    if covariance_type == "auto":
        tried = _cross_validate(x, n_components, shrinkage, groups, random_state, progress)
        shape = tried[0][0]
    else:
        given = (shrinkage or 0.0) if _can_shrink(covariance_type) else 0.0
        shape = MixtureShape(covariance_type, n_components, given)
    model = _expectation_maximisation(x, shape.covariance_type, shape.n_components, random_state)
    mixture = _shrunk(model, shape)
    training = np.sort(mixture.score_samples(x[:n_photographs]))
    paper_threshold = float(training[int(0.05 * n_photographs)])
    notices = tuple(_notices(model, shape, n_photographs, x.shape[1]))
    return MixtureFit(mixture, shape, paper_threshold, tried, notices)


def _check_arguments(
    x: NDArray[Any], covariance_type: str, n_components: int, shrinkage: float | None
) -> None:
    if covariance_type not in (*COVARIANCES, "auto"):
        raise UnknownNameError("covariance", covariance_type, (*COVARIANCES, "auto"))
    if n_components < 1:
        raise UsageError(f"a mixture needs at least 1 component, got {n_components}")
    if shrinkage is not None and not 0.0 <= shrinkage <= 1.0:
        raise UsageError(f"the shrinkage must lie in [0, 1], got {shrinkage:g}")
    if x.ndim != 2 or not np.isfinite(x).all():
        raise DataError(f"embeddings must be finite [n, d], got {list(x.shape)}")
    if len(x) < max(2, n_components if covariance_type != "auto" else 2 * _N_FOLDS):
        raise DataError(f"{len(x)} photographs are too few for a mixture of {n_components} components")


def _can_shrink(covariance_type: str) -> bool:
    return covariance_type in ("full", "tied")


def _expectation_maximisation(x: NDArray[Any], covariance_type: str, k: int, random_state: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(
        k, covariance_type=covariance_type, init_params="k-means++", random_state=random_state
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told by a notice
        try:
            return model.fit(x)
        except ValueError as exc:
            raise DataError(f"no mixture fits these embeddings: {first_line(exc)}") from exc


def _shrunk(model: Any, shape: MixtureShape) -> Mixture:
    """Shrink the covariances of a fitted scikit-learn model, and round it to float32."""
    covariances = model.covariances_
    if shape.covariance_type == "spherical":
        covariances = np.repeat(covariances[:, None], model.means_.shape[1], axis=1)
    if _can_shrink(shape.covariance_type):
        stack = covariances.reshape(-1, *covariances.shape[-2:])
        factors = np.stack([_precision_cholesky(c, shape.shrinkage) for c in stack])
    else:
        factors = 1.0 / np.sqrt(covariances)
    return Mixture(*(torch.from_numpy(a).float() for a in (model.weights_, model.means_, factors)))


def _precision_cholesky(covariance: NDArray[Any], shrinkage: float) -> NDArray[np.float64]:
    """Compute the upper triangular P with P P^T the inverse of the shrunk covariance."""
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
) -> tuple[tuple[MixtureShape, float], ...]:
    """Compute the mean held-out log-likelihood of every candidate shape, best first."""
    folds = _folds(np.arange(len(x)) if groups is None else groups, random_state)
    totals: dict[MixtureShape, float] = {}
    fewest = len(x) - int(np.bincount(folds).max())  # samples that a fold leaves to fit on
    most = max(1, min(n_components, fewest // 2))
    counts = sorted({min(c, most) for c in (*_COMPONENTS, n_components)})
    kinds: tuple[str, ...] = COVARIANCES
    if x.shape[1] > MOST_FOR_MATRICES:
        kinds, counts = COVARIANCES[2:], counts[:2]
    shapes = [(kind, k) for kind in kinds for k in counts if _is_tried(kind, k, fewest, x.shape[1])]
    jobs = [(kind, k, fold) for kind, k in shapes for fold in range(_N_FOLDS)]
    for done, (kind, k, fold) in enumerate(jobs):
        progress(done, len(jobs))
        model = _expectation_maximisation(x[folds != fold], kind, k, random_state)
        for shape in _shapes(kind, k, shrinkage):
            score = float(_shrunk(model, shape).score_samples(x[folds == fold]).sum())
            totals[shape] = totals.get(shape, 0.0) + score
    progress(len(jobs), len(jobs))
    ranked = sorted(totals.items(), key=lambda item: -item[1])
    return tuple((shape, total / len(x)) for shape, total in ranked)


def _is_tried(covariance_type: str, n_components: int, n: int, d: int) -> bool:
    """Leave out full covariances that have fewer samples than dimensions each: they take the most time.

    One full covariance is one tied covariance, which is always tried.
    """
    return covariance_type != "full" or (n_components > 1 and n // n_components > d)


def _shapes(covariance_type: str, n_components: int, shrinkage: float | None) -> Iterator[MixtureShape]:
    if not _can_shrink(covariance_type):
        yield MixtureShape(covariance_type, n_components, 0.0)
        return
    for share in SHRINKAGES if shrinkage is None else (shrinkage,):
        yield MixtureShape(covariance_type, n_components, share)


def _folds(groups: NDArray[Any], random_state: int) -> NDArray[np.int64]:
    """Deal samples into folds, group by group in random order, each to the fold that is smallest by then."""
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


def _notices(model: Any, shape: MixtureShape, n: int, d: int) -> Iterator[str]:
    if not model.converged_:
        yield f"the mixture did not converge in {model.max_iter} iterations"
    per_covariance = n // shape.n_components if shape.covariance_type == "full" else n
    if _can_shrink(shape.covariance_type) and per_covariance <= d and shape.shrinkage == 0.0:
        yield (
            f"the {shape.covariance_type} covariance is degenerate: {per_covariance} photographs for each "
            f"matrix over {d} dimensions; use more photographs or --covariance diag"
        )
