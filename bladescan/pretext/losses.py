r"""The losses of the pretext tasks. This module knows no file, no recipe and no task name.

Every loss takes *similarities* s(x, t) = <f(x), g(t)> / tau and targets, and returns a scalar. Shape
letters: ``b`` images, ``c`` classes (prompts) of one task, ``r`` regions.

A missing target leaves an image out of one loss, not out of the batch: a class < 0 and a NaN are missing.
A loss with nothing to compare is exactly 0 and still has a (zero) gradient. What is missing is weighted by 0
rather than cut out, so shapes never depend on values: no wait for a GPU, nothing to compile anew.

A square root has an infinite slope at 0. The roots of probabilities are taken here as
exp(log(p) / 2), whose gradient with respect to the similarities is finite everywhere, so the paper's
formula needs no constant. ``eps`` > 0 gives the released code's sqrt(p q + eps) instead.

References:
    Zou et al., arXiv:2507.22824, Eq. 3-10.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid, one_hot

RELEASED_EPS = 1e-8
"""What the released code adds under every square root."""

OrdinalProbability = Literal["thurstone", "released"]
OrdinalPairs = Literal["all", "upper"]
OrdinalTies = Literal["higher", "half"]
ClassDistance = Literal["fidelity", "cross-entropy"]


def fidelity(log_probs: Tensor, targets: Tensor, *, eps: float = 0.0) -> Tensor:
    r"""Compute the fidelity distance of two distributions over the last axis, Eq. 4.

    .. math:: \ell(p, q) = 1 - \sum_c \sqrt{p_c q_c}

    Args:
        log_probs: logarithms of the predicted probabilities, ``[..., c]``.
        targets: true probabilities, same shape.
        eps: added under every root, as in the released code; 0 is the paper.

    Returns:
        ``[...]``, unitless, in [0, 1] for ``eps`` = 0; 0 only where both are equal.

    Raises:
        ValueError: the shapes differ.
    """
    if log_probs.shape != targets.shape:
        raise ValueError(f"log_probs {tuple(log_probs.shape)} and targets {tuple(targets.shape)} differ")
    if eps:
        return 1 - torch.sqrt(log_probs.exp() * targets + eps).sum(-1)
    return 1 - (targets.sqrt() * (0.5 * log_probs).exp()).sum(-1)


def categorical_loss(
    similarities: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    eps: float = 0.0,
    distance: ClassDistance = "fidelity",
) -> Tensor:
    r"""Compute the fidelity loss with a focal factor, Eq. 5, or with cross-entropy in place of fidelity.

    .. math:: \ell = (1 - q_y)^\gamma \Big(1 - \sum_c \sqrt{p_c q_c}\Big)

    Args:
        similarities: ``[b, c]``.
        targets: int64 ``[b]``, the class, < 0 where the tag is missing.
        gamma: focal exponent, 0 (the plain loss) or at least 1.
        eps: see `fidelity`.
        distance: ``cross-entropy`` is that of a softmax; of two classes the binary one of their difference.

    Returns:
        Scalar, the mean over images that have the tag; 0 if none has.
    """
    log_probs = log_softmax(similarities, -1)
    probs = one_hot(targets.clamp(min=0), log_probs.shape[-1]).to(log_probs.dtype)
    if distance == "cross-entropy":
        loss = -(probs * log_probs).sum(-1)
    else:
        loss = fidelity(log_probs, probs, eps=eps)
    if gamma:
        # 1 - q as the sum of the other classes: exact where q is next to 1.
        loss = (log_probs.exp() * (1 - probs)).sum(-1) ** gamma * loss
    return _mean_over(targets >= 0, loss)


def coarse_loss(
    similarities: Tensor, targets: Tensor, *, eps: float = 0.0, distance: ClassDistance = "fidelity"
) -> Tensor:
    """Compute the fidelity loss of the softmax over two prompts, Eq. 3-4.

    Args:
        similarities: ``[b, 2]``: photographic, manipulated.
        targets: int64 ``[b]``, 1 where manipulated, < 0 where unknown.
        eps: see `fidelity`.
        distance: see `categorical_loss`.

    Returns:
        Scalar, the mean over images with a target; 0 if there is none.
    """
    return categorical_loss(similarities, targets, gamma=0.0, eps=eps, distance=distance)


def expected_level(similarities: Tensor) -> Tensor:
    r"""Compute the soft level of a tag, Eq. 6: r(x) = sum_l q(l | x) d(l) with d = 1, 2, 3.

    Args:
        similarities: ``[b, c]`` over the level prompts, low to high.

    Returns:
        ``[b]`` in [1, c].
    """
    levels = torch.arange(1, similarities.shape[-1] + 1, dtype=similarities.dtype, device=similarities.device)
    return torch.mv(similarities.softmax(-1), levels)


def pair_log_probs(levels: Tensor, *, probability: OrdinalProbability = "thurstone") -> Tensor:
    r"""Compute the logarithms of P(x >= x') and of its complement by Thurstone's model, Eq. 7.

    .. math:: P(x \ge x') = \Phi\big((r(x) - r(x')) / \sqrt 2\big)

    Args:
        levels: ``[b]``, from `expected_level`.
        probability: ``thurstone``, or ``released`` for the released code's Phi(2 (r - r')).

    Returns:
        ``[b, b, 2]``: row against column; the event, then its complement.
    """
    factor = 2.0**-0.5 if probability == "thurstone" else 2.0
    z = factor * (levels[:, None] - levels[None, :])
    return torch.stack((torch.special.log_ndtr(z), torch.special.log_ndtr(-z)), -1)


def pair_targets(values: Tensor, *, ties: OrdinalTies = "higher") -> Tensor:
    """Compare tags in pairs: is the row's at least the column's, Eq. 8.

    Args:
        values: ``[b]``, the tag's true values.
        ties: equal tags count 1 (``higher``, the paper) or 0.5 (``half``, the released code).

    Returns:
        ``[b, b, 2]``: the event, then its complement, of the dtype of ``values``.
    """
    row, column = values[:, None], values[None, :]
    tie = 1.0 if ties == "higher" else 0.5
    event = (row > column).to(values.dtype) + tie * (row == column).to(values.dtype)
    return torch.stack((event, 1 - event), -1)


def ordinal_loss(
    levels: Tensor,
    values: Tensor,
    *,
    probability: OrdinalProbability = "thurstone",
    pairs: OrdinalPairs = "all",
    ties: OrdinalTies = "higher",
    eps: float = 0.0,
) -> Tensor:
    r"""Compute the fidelity loss of the order of every pair in the minibatch, Eq. 6-9.

    .. math:: \ell = 1 - \sqrt{p P} - \sqrt{(1 - p)(1 - P)}

    Args:
        levels: ``[b]``, r(x): from `expected_level`, or a scalar output.
        values: ``[b]``, the tag in its unit (ISO, f-number, seconds, millimetres); NaN where missing.
        probability: see `pair_log_probs`.
        pairs: every ordered pair of two images (``all``), or each once (``upper``, the released code).
        ties: see `pair_targets`.
        eps: see `fidelity`.

    Returns:
        Scalar, the mean over pairs; 0 if fewer than two images have the tag.
    """
    log_probs = pair_log_probs(levels, probability=probability)
    # Values are compared in their own precision: float16 would tie 1/4000 s with 1/4001 s.
    targets = pair_targets(values, ties=ties).to(log_probs.dtype)
    present = ~values.isnan()
    taken = (
        present[:, None] & present[None, :] & ~torch.eye(len(values), dtype=torch.bool, device=values.device)
    )
    if pairs == "upper":
        taken = taken.triu(1)
    return _mean_over(taken, fidelity(log_probs, targets, eps=eps))


def fine_loss(similarities: Tensor, targets: Tensor, *, eps: float = 0.0) -> Tensor:
    """Compute the fidelity loss of independent sigmoids, averaged over regions, Eq. 10.

    Args:
        similarities: ``[b, r]``.
        targets: ``[b, r]``, 1 where the region is manipulated, 0 where not, NaN where unknown.
        eps: see `fidelity`.

    Returns:
        Scalar, the mean over regions and images with a target; 0 if there is none.

    Raises:
        ValueError: the shapes differ.
    """
    if similarities.shape != targets.shape:
        raise ValueError(
            f"similarities {tuple(similarities.shape)} and targets {tuple(targets.shape)} differ"
        )
    event = targets.nan_to_num().to(similarities.dtype)
    log_probs = torch.stack((logsigmoid(similarities), logsigmoid(-similarities)), -1)
    loss = fidelity(log_probs, torch.stack((event, 1 - event), -1), eps=eps)
    return _mean_over(~targets.isnan(), loss)


def _mean_over(present: Tensor, loss: Tensor) -> Tensor:
    """Average ``loss`` where ``present``; 0 if that is nowhere."""
    weights = present.to(loss.dtype)
    return (weights * loss).sum() / weights.sum().clamp(min=1)
