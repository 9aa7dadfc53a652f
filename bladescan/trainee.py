"""What training changes: the model, the task weights and their optimisers, from a recipe. It runs no loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from bladescan import tasks
from bladescan.bilevel import Params, global_norm
from bladescan.encoders import load_vision_weights
from bladescan.errors import DataError
from bladescan.pretext import JointHead, PretextModel
from bladescan.recipe import InnerRecipe, OuterRecipe, Recipe
from bladescan.text_encoders import TextEncoder, load_text_weights

_RANDOM_TEXT = "random weights: the prompts of a task start out nearly alike; text.weights gives better ones"


class Trainee:
    """A model in training.

    Args:
        model: vision encoder and head, on its device.
        recipe: tasks and optimisers.
        level_edges: upper ends of the levels of ordinal tags that are aligned instead of ranked.

    Attributes:
        names: of the tasks; the order of weights and losses.
        params: what the inner loop trains, by name.
        weights: the task weights lambda, float64 ``[t]``.
    """

    def __init__(self, model: PretextModel, recipe: Recipe, level_edges: Mapping[str, Tensor]) -> None:
        self.model, self.level_edges = model, level_edges
        self.names: tuple[str, ...] = tuple(recipe.tasks)
        self.params: Params = {name: p for name, p in model.named_parameters() if p.requires_grad}
        start = torch.tensor(list(recipe.tasks.values()), dtype=torch.float64, device=model.mean.device)
        self.weights = nn.Parameter(start)
        self.optimizer = _optimizer(list(self.params.values()), recipe.inner)
        self.weights_optimizer = torch.optim.Adam([self.weights], lr=recipe.outer.lr)

    def one_hot(self, name: str) -> Tensor:
        """Weights ``[t]`` that single one task out."""
        chosen = torch.zeros_like(self.weights.detach())
        chosen[self.names.index(name)] = 1
        return chosen

    def named(self, values: Tensor) -> dict[str, float]:
        """``[t]`` as numbers by task name."""
        return dict(zip(self.names, values.detach().tolist(), strict=True))

    @property
    def temperature(self) -> float | None:
        """Tau of the joint embedding; None where there is none."""
        head = self.model.head
        return float(1 / head.scale().detach()) if isinstance(head, JointHead) else None

    def move_weights(self, gradient: Tensor, outer: OuterRecipe) -> None:
        """One step of Adam on the task weights."""
        self.weights.grad = gradient.to(self.weights.dtype)
        self.weights_optimizer.step()
        if outer.minimum is not None:
            with torch.no_grad():
                self.weights.clamp_(min=outer.minimum)

    def move_parameters(self, gradient: Params, lr: float, inner: InnerRecipe) -> None:
        """One step of the inner optimiser.

        Raises:
            DataError: the gradient is not finite; nothing was changed.
        """
        norm = float(global_norm(gradient))
        if not norm < float("inf"):
            raise DataError(
                "training diverged: a gradient is not finite: lower inner.lr or set inner.clip_norm"
            )
        scale = min(1.0, inner.clip_norm / (norm + 1e-6)) if inner.clip_norm else 1.0
        for name, param in self.params.items():
            param.grad = gradient[name] * scale if scale < 1 else gradient[name]
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()


def new_trainee(
    recipe: Recipe,
    device: torch.device,
    tags: Sequence[Mapping[str, float | str]] = (),
    *,
    say: Callable[[str], None] = lambda text: None,
) -> Trainee:
    """A model with its first weights, seeded, on its device.

    Args:
        recipe: what to build.
        device: where.
        tags: of the photographs to learn from, for the levels of tags that are not ranked.
        say: told where the first weights come from.

    Raises:
        DetectorError: weights to start from that do not fit.
        DataError: a tag is to be aligned with its levels but no photograph has it.
    """
    torch.manual_seed(recipe.seed)
    model = PretextModel(recipe)
    start = recipe.encoder.weights
    said = load_vision_weights(model.vision, start) if start else "random weights"
    say(f"vision encoder {recipe.encoder.name}: {said}")
    if isinstance(model.head, JointHead) and isinstance(model.head.text, TextEncoder):
        start = recipe.text.weights
        said = load_text_weights(model.head.text, start) if start else _RANDOM_TEXT
        say(f"text encoder {recipe.text.name}: {said}")
    model = model.to(device)
    if recipe.compute.channels_last:
        model.vision = model.vision.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.compute.compile:
        model.vision.compile()
    aligned = recipe.losses.ordinal.target == "level"
    return Trainee(model, recipe, _level_edges(recipe, tags) if aligned else {})


def _level_edges(recipe: Recipe, tags: Sequence[Mapping[str, float | str]]) -> dict[str, Tensor]:
    """Terciles of every ordinal tag."""
    found: dict[str, Tensor] = {}
    for name in recipe.tasks:
        task = tasks.TASKS[name]
        if task.kind is not tasks.Kind.ORDINAL:
            continue
        values = torch.tensor([float(t[name]) for t in tags if name in t], dtype=torch.float64)
        if not len(values):
            raise DataError(f"no photograph has the tag {name}: take it out of tasks")
        shares = torch.arange(1, len(task.classes), dtype=torch.float64) / len(task.classes)
        found[name] = values.quantile(shares)
    return found


def _optimizer(params: list[Tensor], inner: InnerRecipe) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if inner.optimizer == "adamw" else torch.optim.Adam
    return kind(params, lr=inner.lr, betas=inner.betas, weight_decay=inner.weight_decay)
