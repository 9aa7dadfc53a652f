r"""The bi-level optimisation of the task weights, Eq. 11-19. It knows no file, no recipe and no task name.

The outer problem asks which weights :math:`\lambda` of the ``t`` task losses make one step of the inner
problem good for the primary task on other photographs:

.. math::
    \min_\lambda \; \ell_1(\theta'(\lambda); B_{val}), \qquad
    \theta'(\lambda) = \theta - \alpha \nabla_\theta \sum_i \lambda_i \ell_i(\theta; B_{tr})

Its gradient :math:`-\alpha \, (\nabla_\theta \ell_i)^T v` with
:math:`v = \nabla_{\theta'} \ell_1(\theta'; B_{val})` is the slope of the task losses along ``v``. A central
difference needs two evaluations of the losses and, since the inner objective is linear in :math:`\lambda`,
no backward pass: the loss vector *is* the gradient of the objective with respect to :math:`\lambda`.

Parameters are a flat mapping of names to tensors, handed in and returned; nothing here is changed in place.

References:
    Zou et al., arXiv:2507.22824, section 3.3 and the supplement.
    Liu et al., "DARTS", ICLR 2019, the same difference quotient for another purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Params = dict[str, Tensor]
"""Trainable tensors by name."""

Losses = Callable[[Mapping[str, Tensor]], Tensor]
"""From parameters to the ``[t]`` task losses on one fixed minibatch."""

PROBE_NORM = 0.01
"""Length of the step to either side of theta: eps = 0.01 / ||v||."""


def weighted_gradient(losses: Tensor, weights: Tensor, params: Params, *, keep_graph: bool = False) -> Params:
    r"""Differentiate :math:`\sum_i \lambda_i \ell_i` with respect to the parameters.

    Args:
        losses: ``[t]``, with the graph that leads to ``params``.
        weights: ``[t]``, lambda; taken as constants.
        params: to differentiate by; those that no loss depends on get zeros.
        keep_graph: it will be differentiated again.
    """
    objective = (weights.detach().to(losses.dtype) * losses).sum()
    found = torch.autograd.grad(
        objective, list(params.values()), retain_graph=keep_graph, allow_unused=True, materialize_grads=True
    )
    return dict(zip(params, found, strict=True))


def virtual_parameters(
    params: Params, gradient: Params, *, alpha: float, weight_decay: float = 0.0
) -> Params:
    """Take the virtual step: theta' = theta - alpha (gradient + weight_decay theta), Eq. 14.

    Args:
        params: theta.
        gradient: of the weighted inner objective at theta.
        alpha: inner learning rate.
        weight_decay: 0 in the paper; the released code adds it.

    Returns:
        theta', leaves to differentiate by.
    """
    kept = 1 - alpha * weight_decay
    return {
        name: (kept * value.detach() - alpha * gradient[name]).requires_grad_()
        for name, value in params.items()
    }


@torch.no_grad()
def task_weight_gradient(train_losses: Losses, params: Params, direction: Params, *, alpha: float) -> Tensor:
    r"""Differentiate the outer objective with respect to the task weights, Eq. 17-19.

    .. math:: -\alpha \frac{F(\theta + \epsilon v) - F(\theta - \epsilon v)}{2 \epsilon}

    Args:
        train_losses: F, the task losses on the inner minibatch.
        params: theta.
        direction: v, the gradient of the outer objective at theta'.
        alpha: inner learning rate.

    Returns:
        float64 ``[t]``; zeros if v is 0.
    """
    norm = float(global_norm(direction))
    if norm == 0:
        return torch.zeros_like(train_losses(params), dtype=torch.float64)
    eps = PROBE_NORM / norm
    ahead, behind = (
        train_losses({name: value + side * direction[name] for name, value in params.items()}).double()
        for side in (eps, -eps)
    )
    slope: Tensor = -alpha * (ahead - behind) / (2 * eps)
    return slope


def global_norm(tensors: Mapping[str, Tensor]) -> Tensor:
    """Compute the Compute the Euclidean length of all the tensors taken as one vector; a float64 scalar."""
    # In double: float32 sums of millions of squares are off in the third digit on a CPU.
    lengths = torch.stack([torch.linalg.vector_norm(t, dtype=torch.float64) for t in tensors.values()])
    whole: Tensor = torch.linalg.vector_norm(lengths)
    return whole


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Let batch norms in training mode normalise by their minibatch, but remember nothing of it.

    The virtual copy and the probes are no steps of the training: their statistics must not be mixed into
    those that the finished encoder will use.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, was in zip(norms, tracked, strict=True):
            norm.track_running_stats = was
