import math

import numpy as np
import pytest
import torch

from bladescan.base.errors import DataError
from bladescan.heads.classifier import (
    Classifier,
    ClassifierSettings,
    Grouped,
    draw_pseudo_outliers,
    fit_classifier,
)
from bladescan.heads.mixture import sample
from tests.tiny import tiny_mixture


def two_classes(n=120, m=40, d=24):
    rng = np.random.default_rng(0)
    direction = rng.normal(size=d)
    parts = (rng.normal(size=(n, d)), rng.normal(size=(m, d)) + direction)
    return tuple((p / np.linalg.norm(p, axis=1, keepdims=True)).astype(np.float32) for p in parts)


def test_the_probability_is_the_softmax_of_the_logits():
    torch.manual_seed(0)
    model = Classifier(4, 8)
    x = torch.randn(6, 4, dtype=torch.float64) * 30
    expected = torch.softmax(model(x), 1)[:, 1]
    torch.testing.assert_close(model.p_ai_generated(x), expected, rtol=1e-12, atol=1e-15)


def test_the_forward_pass_meets_a_naive_loop():
    torch.manual_seed(0)
    model = Classifier(3, 5)
    x = [0.5, -1.0, 2.0]
    w1, b1 = model.fc1.weight.tolist(), model.fc1.bias.tolist()
    w2, b2 = model.fc2.weight.tolist(), model.fc2.bias.tolist()
    hidden = [max(0.0, sum(w1[j][i] * x[i] for i in range(3)) + b1[j]) for j in range(5)]
    logits = [sum(w2[c][j] * hidden[j] for j in range(5)) + b2[c] for c in range(2)]
    out = model(torch.tensor([x], dtype=torch.float64))[0].tolist()
    assert out == pytest.approx(logits, rel=1e-12)


def test_extreme_logits_give_finite_probabilities():
    model = Classifier(1, 1)
    with torch.no_grad():
        model.fc1.weight.fill_(1.0)
        model.fc1.bias.zero_()
        model.fc2.weight.copy_(torch.tensor([[0.0], [1.0]]))
        model.fc2.bias.zero_()
        ends = model.p_ai_generated(torch.tensor([[5000.0]], dtype=torch.float64))
        model.fc2.weight.neg_()
        ends = torch.cat([model.p_ai_generated(torch.tensor([[5000.0]], dtype=torch.float64)), ends])
    assert ends.tolist() == [0.0, 1.0]


def test_the_same_seed_gives_the_same_bits_and_leaves_the_callers_generator_alone():
    photographic, ai_generated = two_classes()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fits = [
        fit_classifier(
            Grouped(photographic),
            Grouped(ai_generated),
            tiny_mixture(),
            ClassifierSettings(max_epochs=3, random_state=5),
        )
        for _ in range(2)
    ]
    assert torch.equal(before, torch.get_rng_state())
    assert fits[0][1:] == fits[1][1:]
    for key, value in fits[0].state.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, fits[1].state[key])


def test_unseen_faces_are_told_apart():
    photographic, ai_generated = two_classes(400, 200)
    fit = fit_classifier(
        Grouped(photographic[:200]), Grouped(ai_generated[:100]), None, ClassifierSettings(max_epochs=15)
    )
    model = Classifier(24)
    model.load_state_dict(fit.state)
    unseen = (photographic[200:], ai_generated[100:])
    scores = [model.p_ai_generated(torch.from_numpy(part)).detach() for part in unseen]
    # The optimal rule for a shift of length |direction| over unit noise errs little; chance would give 0.5.
    assert (scores[0][:, None] < scores[1]).float().mean() > 0.9
    assert fit.n_outliers == 0
    assert fit.validation_loss < math.log(2)


def test_pseudo_outliers_are_unlikely_photographs_on_the_sphere():
    mixture = tiny_mixture()
    outliers = draw_pseudo_outliers(mixture, 300, np.random.default_rng(0))
    usual = sample(mixture, 300, np.random.default_rng(1))
    usual /= np.linalg.norm(usual, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(outliers, axis=1), 1, rtol=1e-6)
    assert outliers.shape == (300, 24)
    assert mixture.score_samples(outliers).max() < np.quantile(mixture.score_samples(usual), 0.2)
    raw = draw_pseudo_outliers(mixture, 5, np.random.default_rng(0), normalise=False)
    assert abs(np.linalg.norm(raw, axis=1) - 1).max() > 0.01


def test_too_few_faces_are_refused():
    photographic, ai_generated = two_classes()
    with pytest.raises(DataError, match="9 AI-generated faces: the binary head needs"):
        fit_classifier(Grouped(photographic), Grouped(ai_generated[:9]), None)
