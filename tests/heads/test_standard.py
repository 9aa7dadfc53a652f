import numpy as np
import pytest
import torch

from bladescan.heads.classifier import Classifier
from bladescan.heads.standard import Standard
from tests.tiny import D, tiny_mixture


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, D)) * np.linspace(0.01, 9, D) + np.linspace(-40, 40, D)
    return x.astype(np.float32)


def test_each_number_has_mean_zero_and_deviation_one_and_each_class_the_same_weight(rows):
    a, b = rows[:50], rows[50:]
    standard = Standard.of([a, b])
    for d in range(D):
        mean = (a[:, d].astype(float).mean() + b[:, d].astype(float).mean()) / 2
        squares = [((part[:, d].astype(float) - mean) ** 2).mean() for part in (a, b)]
        assert standard.mean[d] == pytest.approx(mean, rel=1e-6)
        assert standard.deviation[d] == pytest.approx(np.mean(squares) ** 0.5, rel=1e-4)


def test_a_number_that_never_changes_stays_finite(rows):
    rows[:, 3] = 7.0
    standard = Standard.of([rows])
    assert standard.deviation[3] == 1.0 and np.isfinite(standard.apply(rows)).all()


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
def test_a_folded_mixture_scores_embeddings_as_they_are(rows, covariance):
    standard, mixture = Standard.of([rows]), tiny_mixture(covariance)
    folded = standard.folded_mixture(mixture)
    wanted = mixture.score_samples(standard.apply(rows)) - standard.log_volume
    np.testing.assert_allclose(folded.score_samples(rows), wanted, rtol=1e-4)


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_folded_binary_head_scores_embeddings_as_they_are(rows, hidden):
    torch.manual_seed(0)
    standard, state = Standard.of([rows]), Classifier(D, hidden).state_dict()
    folded = standard.folded_classifier(state)
    with torch.no_grad():
        wanted = Classifier.of(state).p_ai_generated(torch.from_numpy(standard.apply(rows)).double())
        found = Classifier.of(folded).p_ai_generated(torch.from_numpy(rows).double())
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-4)


def test_the_unchanged_one_changes_no_bit(rows):
    same, mixture, state = Standard.unchanged(D), tiny_mixture(), Classifier(D, 8).state_dict()
    np.testing.assert_array_equal(same.apply(rows), rows)
    assert all(torch.equal(value, state[key]) for key, value in same.folded_classifier(state).items())
    assert all(
        torch.equal(a, b)
        for a, b in zip(same.folded_mixture(mixture).state().values(), mixture.state().values(), strict=True)
    )
    assert same.log_volume == 0.0
