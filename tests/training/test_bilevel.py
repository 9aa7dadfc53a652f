"""The outer gradient against exact differentiation, and a problem whose answer is known."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from bladescan.training.bilevel import (
    PROBE_NORM,
    frozen_statistics,
    global_norm,
    task_weight_gradient,
    virtual_parameters,
    weighted_gradient,
)

ALPHA = 0.05


@pytest.fixture
def model():
    """A small network with batch norm, in double precision."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()


def data(seed, n=12):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, 6, generator=generator, dtype=torch.float64),
        torch.randn(n, 3, generator=generator, dtype=torch.float64),
    )


def losses_on(model, x, y):
    """Three tasks, one per output; [t] as a function of the parameters."""

    def compute(params):
        return (functional_call(model, dict(params), (x,)) - y).square().mean(0)

    return compute


def exact_outer_gradient(train_losses, validation_loss, params, weights, alpha, weight_decay=0.0):
    """d l_1(theta'(lambda)) / d lambda by differentiating through the virtual step."""
    weights = weights.clone().requires_grad_()
    objective = (weights * train_losses(params)).sum()
    gradient = torch.autograd.grad(objective, list(params.values()), create_graph=True)
    virtual = {
        name: value - alpha * (g + weight_decay * value)
        for (name, value), g in zip(params.items(), gradient, strict=True)
    }
    return torch.autograd.grad(validation_loss(virtual), weights)[0]


@pytest.mark.parametrize(("probe_norm", "tolerance"), [(PROBE_NORM, 1e-3), (1e-4, 1e-7)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_outer_gradient_is_that_of_differentiating_through_the_virtual_step(
    model, weight_decay, probe_norm, tolerance, monkeypatch
):
    """With the paper's step to 1e-3, what the difference quotient leaves; with a smaller one to 1e-7."""
    monkeypatch.setattr("bladescan.training.bilevel.PROBE_NORM", probe_norm)
    params = dict(model.named_parameters())
    weights = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    train, validation = losses_on(model, *data(1)), losses_on(model, *data(2))
    inner = weighted_gradient(train(params), weights, params)
    virtual = virtual_parameters(params, inner, alpha=ALPHA, weight_decay=weight_decay)
    first = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    direction = weighted_gradient(validation(virtual), first, virtual)
    computed = task_weight_gradient(train, params, direction, alpha=ALPHA)
    exact = exact_outer_gradient(train, lambda p: validation(p)[0], params, weights, ALPHA, weight_decay)
    assert exact.abs().min() > 1e-5
    assert_close(computed, exact, rtol=tolerance, atol=0)


def test_the_error_of_the_difference_falls_with_the_square_of_its_step(model, monkeypatch):
    params = dict(model.named_parameters())
    train = losses_on(model, *data(1))
    direction = {name: torch.randn_like(p) for name, p in params.items()}
    slopes = [
        sum((g * direction[k]).sum() for k, g in zip(params, gradient, strict=True))
        for gradient in (
            torch.autograd.grad(loss, list(params.values()), retain_graph=True) for loss in train(params)
        )
    ]
    exact = -ALPHA * torch.stack(slopes).detach()
    errors = []
    for norm in (0.4, 0.2, 0.1):
        monkeypatch.setattr("bladescan.training.bilevel.PROBE_NORM", norm)
        errors.append((task_weight_gradient(train, params, direction, alpha=ALPHA) - exact).norm())
    assert 3.5 < errors[0] / errors[1] < 4.5 and 3.5 < errors[1] / errors[2] < 4.5


def test_probes_build_no_graph_and_change_no_parameter(model):
    params = dict(model.named_parameters())
    before = {name: p.detach().clone() for name, p in params.items()}
    seen = []

    def train(probed):
        seen.append(torch.is_grad_enabled())
        return losses_on(model, *data(1))(probed)

    direction = {name: torch.ones_like(p) for name, p in params.items()}
    gradient = task_weight_gradient(train, params, direction, alpha=ALPHA)
    assert seen == [False, False] and not gradient.requires_grad
    assert all(torch.equal(before[name], p) for name, p in params.items())


def test_a_direction_of_zero_gives_a_gradient_of_zero(model):
    params = dict(model.named_parameters())
    direction = {name: torch.zeros_like(p) for name, p in params.items()}
    gradient = task_weight_gradient(losses_on(model, *data(1)), params, direction, alpha=ALPHA)
    assert gradient.tolist() == [0.0, 0.0, 0.0]


def test_the_weighted_gradient_is_linear_in_the_weights_and_zero_where_nothing_leads(model):
    params = {
        **dict(model.named_parameters()),
        "unused": torch.ones(2, dtype=torch.float64, requires_grad=True),
    }
    x, y = data(3)
    losses = (model(x) - y).square().mean(0)
    units = [weighted_gradient(losses, w, params, keep_graph=True) for w in torch.eye(3)]
    together = weighted_gradient(losses, torch.tensor([1.0, 2.0, 3.0]), params)
    for name in params:
        assert_close(together[name], sum(k * unit[name] for k, unit in enumerate(units, 1)))
    assert together["unused"].tolist() == [0.0, 0.0]


def test_the_norm_is_that_of_one_long_vector():
    tensors = {"a": torch.tensor([[3.0], [0.0]]), "b": torch.tensor(4.0)}
    assert float(global_norm(tensors)) == pytest.approx(5.0)


def test_within_frozen_statistics_a_minibatch_normalises_itself_and_leaves_no_trace(model):
    x, _ = data(4)
    norm = model[1]
    model(x)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    with frozen_statistics(model):
        inside = model(x + 5)
        assert_close(norm(model[0](x)).mean(0), norm.bias, atol=1e-6, rtol=0)
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
    assert_close(model(x + 5), inside)
    assert not torch.equal(before["running_mean"], norm.running_mean)


def test_statistics_are_tracked_again_after_an_error(model):
    with pytest.raises(RuntimeError), frozen_statistics(model):
        raise RuntimeError
    assert model[1].track_running_stats


def test_the_weight_of_a_harmful_task_falls_and_of_a_helpful_one_rises():
    """One linear model, three tasks with targets w*, w* and -w*: the first is the primary one.

    The second teaches the same as the first, the third the opposite; both are seen on other data than the
    first is validated on.
    """
    generator = torch.Generator().manual_seed(0)
    true = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    signs = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    params = {"w": torch.zeros(3, dtype=torch.float64, requires_grad=True)}
    weights = nn.Parameter(torch.ones(3, dtype=torch.float64))
    adam = torch.optim.Adam([weights], lr=0.05)

    def losses_of(x):
        return lambda p: ((x @ p["w"])[:, None] - (x @ true)[:, None] * signs).square().mean(0)

    for _ in range(40):
        x, z = (torch.randn(16, 3, generator=generator, dtype=torch.float64) for _ in range(2))
        train, validation = losses_of(x), losses_of(z)
        inner = weighted_gradient(train(params), weights, params)
        virtual = virtual_parameters(params, inner, alpha=ALPHA)
        direction = weighted_gradient(validation(virtual)[:1], torch.ones(1), virtual)
        weights.grad = task_weight_gradient(train, params, direction, alpha=ALPHA)
        adam.step()
        refined = weighted_gradient(train(params), weights, params)
        params = {"w": (params["w"] - ALPHA * refined["w"]).detach().requires_grad_()}
    primary, helpful, harmful = weights.tolist()
    assert helpful > 1.2 and primary > 1.2
    assert harmful < 0.5
    assert (params["w"] - true).norm() < 0.5 * true.norm()
