"""The fit of the mixture: scikit-learn's, and the choice of its shape."""

import numpy as np
import pytest
import torch

from bladescan.base.errors import DataError, UnknownNameError, UsageError
from bladescan.heads.mixture import to_scikit_learn
from bladescan.heads.mixture_fit import COVARIANCES, fit_mixture


def clusters(n=240, d=6, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, d)) * 4
    return centres[rng.integers(0, 3, n)] + rng.normal(size=(n, d)) @ rng.normal(size=(d, d))


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_fit_scores_as_scikit_learn_does(covariance):
    from sklearn.mixture import GaussianMixture

    x = clusters()
    ours = fit_mixture(x, covariance_type=covariance, n_components=3, random_state=4)
    theirs = GaussianMixture(3, covariance_type=covariance, init_params="k-means++", random_state=4).fit(x)
    np.testing.assert_allclose(ours.mixture.score_samples(x), theirs.score_samples(x), rtol=1e-5)
    reference = to_scikit_learn(ours.mixture).score_samples(x)
    np.testing.assert_allclose(ours.mixture.score_samples(x), reference, rtol=1e-12)


def test_the_paper_threshold_is_a_training_score_by_index():
    x = clusters()
    fit = fit_mixture(x, n_components=3)
    assert fit.paper_threshold == sorted(fit.mixture.score_samples(x))[12]  # int(0.05 * 240)


def test_the_same_seed_gives_the_same_bits():
    x = clusters()
    first, second = (fit_mixture(x, covariance_type="auto", n_components=3, random_state=7) for _ in range(2))
    assert first.shape == second.shape
    assert first.held_out == second.held_out
    for key, value in first.mixture.state().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, second.mixture.state()[key])


def test_full_shrinkage_leaves_the_diagonal_alone():
    x = clusters()
    none, full = (fit_mixture(x, n_components=1, shrinkage=s).mixture for s in (0.0, 1.0))
    covariances = [
        np.linalg.inv(f @ f.T) for f in (m.precisions_cholesky_[0].double().numpy() for m in (none, full))
    ]
    np.testing.assert_allclose(covariances[0].diagonal(), covariances[1].diagonal(), rtol=1e-4)
    np.testing.assert_allclose(covariances[1], np.diag(covariances[1].diagonal()), atol=1e-6)
    assert abs(covariances[0] - np.diag(covariances[0].diagonal())).max() > 0.1


def test_auto_takes_the_shape_with_the_highest_held_out_likelihood():
    rng = np.random.default_rng(0)
    spherical = rng.normal(size=(60, 40))
    fit = fit_mixture(spherical, covariance_type="auto", n_components=10)
    scores = [score for _, score in fit.held_out]
    assert scores == sorted(scores, reverse=True)
    assert fit.shape == fit.held_out[0][0]
    assert (fit.shape.covariance_type, fit.shape.n_components) == ("spherical", 1)
    correlated = rng.normal(size=(600, 3)) @ np.array([[1.0, 0.9, 0.8], [0, 0.3, 0.1], [0, 0, 0.2]])
    assert fit_mixture(correlated, covariance_type="auto", n_components=1).shape.covariance_type in (
        "full",
        "tied",
    )


def test_auto_beats_a_degenerate_full_covariance_on_unseen_samples():
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(3, 40))
    train, unseen = (rng.normal(size=(n, 3)) @ basis + 0.3 * rng.normal(size=(n, 40)) for n in (60, 200))
    full = fit_mixture(train, n_components=3)
    auto = fit_mixture(train, covariance_type="auto", n_components=3)
    assert auto.mixture.score_samples(unseen).mean() > full.mixture.score_samples(unseen).mean() + 10
    assert "degenerate: 20 photographs for each matrix over 40 dimensions" in full.notices[0]
    assert auto.notices == ()


def test_groups_stay_in_one_fold():
    # Each group is five copies: split apart, a full covariance would look good on "held-out" copies.
    rng = np.random.default_rng(0)
    single = rng.normal(size=(40, 20))
    copies = np.repeat(single, 5, axis=0) + 1e-3 * rng.normal(size=(200, 20))
    grouped = fit_mixture(copies, covariance_type="auto", n_components=10, groups=np.repeat(np.arange(40), 5))
    alone = fit_mixture(copies, covariance_type="auto", n_components=10)
    assert grouped.shape.n_components < alone.shape.n_components


def test_progress_counts_to_the_end():
    seen = []
    fit_mixture(
        clusters(60), covariance_type="auto", n_components=1, progress=lambda a, b: seen.append((a, b))
    )
    assert seen == [(i, 9) for i in range(10)]  # three covariances, one count of components, three folds


@pytest.mark.parametrize("n,tried", [(100, False), (400, True)])
def test_full_covariances_are_tried_where_there_are_samples_for_them(n, tried):
    samples = np.random.default_rng(0).normal(size=(n, 40))
    fit = fit_mixture(samples, covariance_type="auto", n_components=3)
    kinds = {(shape.covariance_type, shape.n_components) for shape, _ in fit.held_out}
    assert (("full", 3) in kinds) is tried
    assert ("full", 1) not in kinds and {("tied", 1), ("diag", 3), ("spherical", 1)} <= kinds


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"covariance_type": "ful"}, UnknownNameError, "Did you mean 'full'"),
        ({"n_components": 0}, UsageError, "at least 1 component"),
        ({"shrinkage": 1.5}, UsageError, r"\[0, 1\]"),
        ({"n_components": 50}, DataError, "20 photographs are too few for a mixture of 50"),
        ({"covariance_type": "auto", "groups": np.zeros(20)}, DataError, "form 1 groups"),
    ],
)
def test_a_fit_that_cannot_be_done_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        fit_mixture(clusters(20), **{"n_components": 2, **arguments})


def test_embeddings_that_are_not_numbers_are_refused():
    with pytest.raises(DataError, match="finite"):
        fit_mixture(np.full((20, 3), np.nan))
