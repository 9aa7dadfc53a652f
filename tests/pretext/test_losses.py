"""Each formula against a loop written from the paper, then invariants and extremes."""

from math import erf, exp, sqrt

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from bladescan.pretext import losses

EXTREMES = [0.0, 1.0, -1.0, 30.0, -30.0, 100.0, -100.0, 1e4, -1e4]


def phi(z):
    return 0.5 * (1 + erf(z / sqrt(2)))


def softmax(row):
    top = max(row)
    powers = [exp(s - top) for s in row]
    return [p / sum(powers) for p in powers]


def naive_fidelity(predicted, targets, eps=0.0):
    return 1 - sum(sqrt(p * q + eps) for p, q in zip(predicted, targets, strict=True))


def naive_categorical(similarities, targets, gamma, eps=0.0):
    terms = []
    for row, y in zip(similarities.tolist(), targets.tolist(), strict=True):
        if y < 0:
            continue
        q = softmax(row)
        one_hot = [float(c == y) for c in range(len(q))]
        terms.append((1 - q[y]) ** gamma * naive_fidelity(q, one_hot, eps))
    return sum(terms) / len(terms)


def naive_ordinal(similarities, values, *, factor, upper, tie, eps=0.0):
    levels = [sum(d * q for d, q in enumerate(softmax(row), 1)) for row in similarities.tolist()]
    tags, terms = values.tolist(), []
    for i in range(len(tags)):
        for j in range(len(tags)):
            if i == j or tags[i] != tags[i] or tags[j] != tags[j] or (upper and j < i):
                continue
            targets = 1.0 if tags[i] > tags[j] else tie if tags[i] == tags[j] else 0.0
            p = phi(factor * (levels[i] - levels[j]))
            terms.append(naive_fidelity([p, 1 - p], [targets, 1 - targets], eps))
    return sum(terms) / len(terms)


def naive_fine(similarities, targets):
    terms = []
    for row, labels in zip(similarities.tolist(), targets.tolist(), strict=True):
        for s, label in zip(row, labels, strict=True):
            if label == label:
                q = 1 / (1 + exp(-s))
                terms.append(naive_fidelity([q, 1 - q], [label, 1 - label]))
    return sum(terms) / len(terms)


@pytest.fixture
def similarities():
    return 3 * torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("eps", [0.0, losses.RELEASED_EPS])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_categorical_loss_is_the_papers_sum(similarities, gamma, eps):
    targets = tensor([0, 1, 2, -1, 1, 0, -1])
    expected = naive_categorical(similarities, targets, gamma, eps)
    assert_close(
        losses.categorical_loss(similarities, targets, gamma=gamma, eps=eps).item(),
        expected,
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize(("probability", "factor"), [("thurstone", 1 / sqrt(2)), ("released", 2.0)])
@pytest.mark.parametrize(("pairs", "upper"), [("all", False), ("upper", True)])
@pytest.mark.parametrize(("ties", "tie"), [("higher", 1.0), ("half", 0.5)])
def test_ordinal_loss_is_the_papers_double_sum(similarities, probability, factor, pairs, upper, ties, tie):
    values = tensor([100.0, 400.0, float("nan"), 100.0, 3200.0, 50.0, 400.0], dtype=torch.float64)
    expected = naive_ordinal(similarities, values, factor=factor, upper=upper, tie=tie)
    computed = losses.ordinal_loss(
        losses.expected_level(similarities), values, probability=probability, pairs=pairs, ties=ties
    )
    assert_close(computed.item(), expected, rtol=1e-10, atol=1e-12)


def test_released_ordinal_loss_adds_eps_under_the_roots(similarities):
    values = tensor([1.0, 2.0, 2.0, 3.0, 9.0, 5.0, 4.0], dtype=torch.float64)
    expected = naive_ordinal(similarities, values, factor=2.0, upper=True, tie=0.5, eps=1e-8)
    computed = losses.ordinal_loss(
        losses.expected_level(similarities),
        values,
        probability="released",
        pairs="upper",
        ties="half",
        eps=losses.RELEASED_EPS,
    )
    assert_close(computed.item(), expected, rtol=1e-10, atol=1e-12)


def test_fine_loss_is_the_papers_sum(similarities):
    targets = torch.randint(2, (7, 3), generator=torch.Generator().manual_seed(1)).double()
    targets[2] = float("nan")
    targets[3, 1] = float("nan")
    assert_close(losses.fine_loss(similarities, targets).item(), naive_fine(similarities, targets))


def test_coarse_loss_of_an_undecided_guess_is_one_minus_the_root_of_a_half():
    assert_close(losses.coarse_loss(torch.zeros(4, 2), tensor([0, 1, 1, 0])).item(), 1 - sqrt(0.5))


def test_fidelity_of_a_confident_guess_on_a_tie():
    expected = 1 - sqrt(0.8 * 0.5) - sqrt(0.2 * 0.5)
    computed = losses.fidelity(tensor([0.8, 0.2]).log(), tensor([0.5, 0.5]))
    assert_close(computed.item(), expected, rtol=0, atol=1e-6)


def test_fidelity_is_zero_only_for_the_truth():
    targets = tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    assert losses.fidelity(targets.log(), targets).abs() < 1e-12
    assert losses.fidelity(tensor([0.3, 0.2, 0.5], dtype=torch.float64).log(), targets) > 1e-3


def test_thurstone_probabilities_of_a_pair_and_its_mirror_add_up_to_one():
    levels = tensor([1.0, 1.5, 3.0, 2.2], dtype=torch.float64)
    event = losses.pair_log_probs(levels)[..., 0].exp()
    assert_close(event + event.T, torch.ones(4, 4, dtype=torch.float64))


def test_exposure_times_rank_by_seconds_however_close():
    values = tensor([1 / 4000, 1 / 4001, 1 / 60])
    assert losses.pair_targets(values)[..., 0].tolist() == [[1, 1, 0], [0, 1, 0], [1, 1, 1]]


def test_the_expected_level_lies_between_first_and_last():
    levels = losses.expected_level(tensor([[50.0, 0, 0], [0, 50, 0], [0, 0, 50], [0, 0, 0]]))
    assert_close(levels, tensor([1.0, 2.0, 3.0, 2.0]))


def test_an_image_without_the_tag_changes_no_loss(similarities):
    values = tensor([100.0, 400.0, 200.0, 100.0, 3200.0, 50.0, float("nan")], dtype=torch.float64)
    classes = tensor([0, 1, 2, 0, 1, 0, -1])
    levels = losses.expected_level(similarities)
    assert_close(losses.ordinal_loss(levels, values), losses.ordinal_loss(levels[:6], values[:6]))
    assert_close(
        losses.categorical_loss(similarities, classes),
        losses.categorical_loss(similarities[:6], classes[:6]),
    )


@pytest.mark.parametrize(
    "loss",
    [
        lambda s: losses.categorical_loss(s, tensor([-1, -1])),
        lambda s: losses.ordinal_loss(s[:, 0], tensor([float("nan"), 3.0])),
        lambda s: losses.fine_loss(s, torch.full((2, 3), float("nan"))),
    ],
    ids=["categorical", "ordinal", "fine"],
)
def test_a_loss_without_truth_is_zero_with_a_zero_gradient(loss):
    s = torch.randn(2, 3, requires_grad=True)
    value = loss(s)
    value.backward()
    assert value.item() == 0
    assert s.grad is not None and s.grad.abs().max() == 0


@pytest.mark.parametrize("eps", [0.0, losses.RELEASED_EPS])
@pytest.mark.parametrize("high", EXTREMES)
@pytest.mark.parametrize("low", EXTREMES)
def test_values_and_gradients_are_finite_at_the_ends(high, low, eps):
    s = tensor([[high, low, 0.0], [low, high, 1.0], [0.0, 0.0, high]], requires_grad=True)
    total = (
        losses.categorical_loss(s, tensor([1, 0, 2]), eps=eps)
        + losses.coarse_loss(s[:, :2], tensor([1, 0, 1]), eps=eps)
        + losses.ordinal_loss(losses.expected_level(s), tensor([1.0, 2.0, 2.0]), eps=eps)
        + losses.fine_loss(s, tensor([[1.0, 0, 1], [0, 1, 0], [1, 1, 0]]), eps=eps)
    )
    total.backward()
    assert total.isfinite()
    assert s.grad is not None and s.grad.isfinite().all()


def test_descending_each_loss_reaches_the_truth():
    s = torch.zeros(3, 3, requires_grad=True)
    optimizer = torch.optim.Adam([s], lr=0.2)
    for _ in range(200):
        optimizer.zero_grad()
        losses.ordinal_loss(losses.expected_level(s), tensor([5.0, 1.0, 3.0])).backward()
        optimizer.step()
    levels = losses.expected_level(s)
    assert levels[0] > levels[2] > levels[1]


def test_shapes_that_differ_are_an_error():
    with pytest.raises(ValueError, match="differ"):
        losses.fine_loss(torch.zeros(2, 3), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="differ"):
        losses.fidelity(torch.zeros(2, 3), torch.zeros(2, 2))
