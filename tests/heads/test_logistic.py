import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from bladescan.base.errors import DataError
from bladescan.heads.classifier import Classifier, Grouped
from bladescan.heads.logistic import PENALTIES, fit_logistic


def classes(n=120, m=40, d=6, shift=1.0):
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    theirs[:, 0] += shift
    return Grouped(ours.astype(np.float32)), Grouped(theirs.astype(np.float32))


def test_it_is_the_minimum_of_the_penalised_loss_with_both_classes_of_the_same_weight():
    ours, theirs = classes()
    fit = fit_logistic(ours, theirs)
    x = np.concatenate([ours.embeddings, theirs.embeddings]).astype(float)
    y = np.repeat([-1, 1], [120, 40])
    weight = np.repeat([160 / 240, 160 / 80], [120, 40])

    def loss(w):
        margin = y * (x @ w[:-1] + w[-1])
        return fit.penalty * (weight * np.logaddexp(0, -margin)).sum() + 0.5 * w[:-1] @ w[:-1]

    found = np.append(fit.state["fc2.weight"][1].numpy(), fit.state["fc2.bias"][1].numpy())
    assert loss(found) == pytest.approx(minimize(loss, np.zeros(7)).fun, rel=1e-4)
    assert fit.penalty in PENALTIES
    assert not fit.state["fc2.weight"][0].any() and fit.state["fc2.bias"][0] == 0


def test_the_penalty_with_the_lowest_loss_on_unseen_faces_is_taken():
    rng = np.random.default_rng(0)
    # Far more numbers than faces, of which one tells: a weak penalty would learn the noise.
    ours, theirs = rng.normal(size=(60, 400)), rng.normal(size=(60, 400))
    theirs[:, 0] += 1.0
    fit = fit_logistic(Grouped(ours.astype(np.float32)), Grouped(theirs.astype(np.float32)))
    assert fit.penalty < PENALTIES[-1]
    assert fit.validation_loss < np.log(2) + 0.05


def test_its_head_ranks_the_classes():
    ours, theirs = classes(shift=6.0)
    head = Classifier.of(fit_logistic(ours, theirs).state)
    with torch.no_grad():
        a, b = (head.p_ai_generated(torch.from_numpy(p.embeddings).double()).numpy() for p in (ours, theirs))
    assert np.quantile(a, 0.95) < np.quantile(b, 0.05)


def test_the_same_seed_gives_the_same_bits_and_too_few_faces_are_refused():
    first, second = (fit_logistic(*classes(), random_state=1) for _ in range(2))
    assert all(torch.equal(first.state[key], second.state[key]) for key in first.state)
    with pytest.raises(DataError, match="9 AI-generated faces"):
        fit_logistic(*classes(m=9))
