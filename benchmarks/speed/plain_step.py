"""A plain reading of one bi-level training step, for `train_step.py` to stand beside bladescan's own.

It is written from the paper (Zou et al., arXiv:2507.22824, Eq. 3-19) the way its authors' code goes about
it, and shares with bladescan the ResNet, the tokeniser and the table of tasks, nothing else. What is plain
about it:

- every pass reads all prompts anew, each padded to 77 tokens, through a transformer of
  `nn.MultiheadAttention` with the whole vocabulary;
- the virtual weights are a deep copy of the model; the probes perturb the weights in place and run with
  autograd on, for the gradient of the weighted sum with respect to the task weights;
- the losses of the training minibatch are computed again for the last step;
- float32 (or autocast), contiguous tensors, one parameter after the other.

The losses are the paper's formulas, not the released code's variants, so that gradients can be compared.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bladescan.detectors.manifest import Preprocessing
from bladescan.networks.tokenisers import VOCABULARIES, tokenise
from bladescan.networks.vision_encoder import VisionEncoder
from bladescan.tasks import pretext_tasks as tasks
from bladescan.tasks.pretext_tasks import TaskKind

CONTEXT = 77
GAMMA = 2.0
EPSILON = 0.01
NAMES = tuple(tasks.TASKS)

Truth = Mapping[str, Tensor]


class Examples(NamedTuple):
    """uint8 pixels ``[b, h, w, 3]`` and the truth by task name, -1 or NaN where it is missing."""

    pixels: Tensor
    targets: Truth


class QuickGELU(nn.Module):
    """CLIP's activation."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * torch.sigmoid(1.702 * x)


class Mlp(nn.Module):
    """Four times as wide inside."""

    def __init__(self, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.activation = activation
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width]``."""
        return self.c_proj(self.activation(self.c_fc(x)))


class Block(nn.Module):
    """Attention and MLP, a layer norm before each."""

    def __init__(self, width: int, heads: int, activation: nn.Module) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads)
        self.mlp = Mlp(width, activation)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``[77, n, width]``."""
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """Blocks, one after the other."""

    def __init__(self, layers: int, width: int, heads: int, activation: nn.Module) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, activation) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``[77, n, width]``."""
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Text(nn.Module):
    """GPT-2's or CLIP's transformer over prompts padded to 77 tokens; parameters are called as in CLIP.

    Args:
        name: ``gpt2`` or ``clip``.
        layers, width, heads: its size.
        embedding_dim: length of an embedding.
    """

    def __init__(self, name: str, layers: int, width: int, heads: int, embedding_dim: int) -> None:
        super().__init__()
        vocabulary = VOCABULARIES[name]
        tokens = tokenise(name, tasks.prompts(NAMES))
        n, longest = tokens.ids.shape
        ids = torch.cat((tokens.ids, torch.full((n, CONTEXT - longest), vocabulary.end)), 1)
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("last", tokens.lengths - 1, persistent=False)
        self.register_buffer("mask", torch.full((CONTEXT, CONTEXT), -torch.inf).triu(1), persistent=False)
        activation = QuickGELU() if name == "clip" else nn.GELU("tanh")
        self.token_embedding = nn.Embedding(vocabulary.size, width)
        self.positional_embedding = nn.Parameter(torch.empty(vocabulary.context, width))
        self.transformer = Transformer(layers, width, heads, activation)
        self.ln_final = nn.LayerNorm(width)
        n_out = 2 * width if name == "clip" else width
        if name == "clip":
            self.text_projection = nn.Parameter(torch.empty(width, n_out))
        if name == "clip" or n_out != embedding_dim:
            self.text_fc = nn.Linear(n_out, embedding_dim)

    def forward(self) -> Tensor:
        """Embeddings ``[n, embedding_dim]`` of all prompts."""
        x = self.token_embedding(self.ids) + self.positional_embedding[:CONTEXT]
        mask = self.mask.to(x.dtype)
        x = self.transformer(x.permute(1, 0, 2), mask).permute(1, 0, 2)
        x = self.ln_final(x)[torch.arange(len(x), device=x.device), self.last]
        if hasattr(self, "text_projection"):
            x = x @ self.text_projection
        return self.text_fc(x) if hasattr(self, "text_fc") else x


class Model(nn.Module):
    """s(x, t) = <f(x), g(t)> / tau."""

    def __init__(self, vision: VisionEncoder, text: Text, temperature: float) -> None:
        super().__init__()
        self.vision, self.text = vision, text
        self.logit_scale = nn.Parameter(torch.tensor(1 / temperature).log())
        preprocessing = Preprocessing()
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Similarities ``[b, n]``."""
        x = pixels.permute(0, 3, 1, 2).contiguous().to(self.mean.dtype) / 255
        image = self.vision((x - self.mean) / self.std)
        text = self.text()
        image = image / image.norm(dim=1, keepdim=True)
        text = text / text.norm(dim=1, keepdim=True)
        return self.logit_scale.exp() * image @ text.t()


def _true_class(similarities: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """Eq. 4-5. The truth is one-hot, so the sum under Eq. 4 has one term: the root of the true class' q."""
    q = similarities.softmax(1)[torch.arange(len(targets), device=targets.device), targets]
    return ((1 - q) ** gamma * (1 - q.sqrt())).mean()


def _order(similarities: Tensor, values: Tensor) -> Tensor:
    """Eq. 6-9 over all ordered pairs of two photographs."""
    r = similarities.softmax(1) @ torch.arange(1, 4, dtype=similarities.dtype, device=similarities.device)
    p = torch.special.ndtr((r[:, None] - r[None, :]) / 2**0.5)
    p = torch.where(values[:, None] >= values[None, :], p, 1 - p)
    others = ~torch.eye(len(values), dtype=torch.bool, device=values.device)
    return (1 - p[others].sqrt()).mean()


def _regions(similarities: Tensor, targets: Tensor) -> Tensor:
    """Eq. 10."""
    q = similarities.sigmoid()
    return (1 - torch.where(targets > 0.5, q, 1 - q).sqrt()).mean()


def task_loss(kind: TaskKind, similarities: Tensor, targets: Tensor) -> Tensor:
    """The loss of one task over the examples that have its truth; 0 if they are too few."""
    known = ~targets.flatten(1)[:, 0].isnan() if targets.ndim > 1 else ~(targets.isnan() | (targets < 0))
    s, t = similarities[known], targets[known]
    if len(t) < (2 if kind is TaskKind.ORDINAL else 1):
        return similarities.sum() * 0
    if kind is TaskKind.ORDINAL:
        return _order(s, t)
    if kind is TaskKind.FINE:
        return _regions(s, t)
    return _true_class(s, t, GAMMA if kind is TaskKind.CATEGORICAL else 0.0)


class Settings(NamedTuple):
    """The numbers of the step.

    Attributes:
        alpha: learning rate of the virtual step.
        weight_decay: of the virtual step.
        autocast: dtype of the passes, None for that of the weights.
    """

    alpha: float = 1e-5
    weight_decay: float = 0.0
    autocast: torch.dtype | None = None


def task_losses(model: Model, examples: Examples, settings: Settings) -> Tensor:
    """The losses of the eleven tasks, ``[11]``, in the paper's order."""
    device, dtype = examples.pixels.device.type, settings.autocast
    # One context per pass: within one, autocast would go on using the casts of weights that have moved since.
    with torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None):
        similarities = model(examples.pixels)
    similarities = similarities.to(model.logit_scale.dtype)
    where = tasks.prompt_columns(NAMES)
    losses = [
        task_loss(tasks.find_task(name).kind, similarities[:, where[name]], examples.targets[name])
        for name in NAMES
    ]
    return torch.stack(losses)


class Outcome(NamedTuple):
    """Losses and gradient of the task weights, both ``[11]``."""

    losses: Tensor
    gradient: Tensor


def plain_step(
    model: Model,
    weights: Tensor,
    training: Examples,
    validation: Examples,
    optimizer: torch.optim.Optimizer,
    weights_optimizer: torch.optim.Optimizer,
    settings: Settings,
    *,
    keep_statistics: bool = False,
) -> Outcome:
    """One step of both loops.

    Args:
        model: in training mode.
        weights: the task weights, a leaf that needs a gradient, ``[11]``.
        training: B_tr.
        validation: B_val; the coarse task is the outer objective.
        optimizer: of the model's parameters.
        weights_optimizer: of the task weights.
        settings: the step's numbers.
        keep_statistics: whether only the last pass may move the running statistics of the batch norms; in
            the plain code every pass does.
    """
    kept = _statistics(model) if keep_statistics else []
    gradient = outer_gradient(model, weights, training, validation, settings)
    weights.grad = gradient
    weights_optimizer.step()
    if keep_statistics:
        _restore(model, kept)
    losses = task_losses(model, training, settings)
    optimizer.zero_grad()
    (weights.detach() * losses).sum().backward()
    optimizer.step()
    return Outcome(losses.detach(), gradient)


def outer_gradient(
    model: Model, weights: Tensor, training: Examples, validation: Examples, settings: Settings
) -> Tensor:
    """Gradient of the outer objective with respect to the task weights, ``[11]``, by Eq. 14-19."""
    parameters = list(model.parameters())
    virtual = _virtual_model(model, weights, training, settings)
    v = _gradients(task_losses(virtual, validation, settings)[0], virtual.parameters())
    # In double: PyTorch's float32 norm of tens of millions of numbers is off by 0.2 % on a CPU.
    epsilon = EPSILON / torch.cat([g.flatten() for g in v]).norm(dtype=torch.float64).to(v[0].dtype)
    _move(parameters, v, epsilon)
    upper = _weights_gradient(model, weights, training, settings)
    _move(parameters, v, -2 * epsilon)
    lower = _weights_gradient(model, weights, training, settings)
    _move(parameters, v, epsilon)
    return -settings.alpha * (upper - lower) / (2 * epsilon)


def _virtual_model(model: Model, weights: Tensor, training: Examples, settings: Settings) -> Model:
    loss = (weights.detach() * task_losses(model, training, settings)).sum()
    gradients = _gradients(loss, model.parameters())
    virtual = copy.deepcopy(model)
    with torch.no_grad():
        for parameter, gradient in zip(virtual.parameters(), gradients, strict=True):
            decay = settings.weight_decay * parameter
            parameter.copy_(parameter - settings.alpha * (gradient + decay))
    return virtual


def _weights_gradient(model: Model, weights: Tensor, training: Examples, settings: Settings) -> Tensor:
    """With autograd through the whole pass, though only the weights are asked for."""
    (gradient,) = torch.autograd.grad((weights * task_losses(model, training, settings)).sum(), weights)
    return gradient


def _gradients(loss: Tensor, parameters: Iterable[Tensor]) -> list[Tensor]:
    parameters = list(parameters)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]


@torch.no_grad()
def _move(parameters: Iterable[Tensor], direction: Iterable[Tensor], distance: Tensor) -> None:
    for parameter, part in zip(parameters, direction, strict=True):
        parameter.add_(distance * part)


def _statistics(model: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in model.buffers()]


@torch.no_grad()
def _restore(model: nn.Module, kept: Iterable[Tensor]) -> None:
    for buffer, value in zip(model.buffers(), kept, strict=True):
        buffer.copy_(value)
