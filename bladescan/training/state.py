"""What training changes: the model, the task weights and their optimisers, from a recipe. It runs no loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from bladescan.base.errors import DataError
from bladescan.networks.encoders import load_vision_weights
from bladescan.networks.text_encoders import TextEncoder
from bladescan.networks.text_weights import load_text_weights
from bladescan.pretext.model import JointHead, PretextModel
from bladescan.tasks import pretext_tasks as tasks
from bladescan.tasks.recipe import InnerRecipe, OuterRecipe, Recipe
from bladescan.training.bilevel import Params, global_norm

_RANDOM_TEXT = "random weights: the prompts of a task start out nearly alike; text.weights gives better ones"


class TrainingState:
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
        """Make weights ``[t]`` that single one task out."""
        chosen = torch.zeros_like(self.weights.detach())
        chosen[self.names.index(name)] = 1
        return chosen

    def named(self, values: Tensor) -> dict[str, float]:
        """Turn ``[t]`` into numbers by task name."""
        return dict(zip(self.names, values.detach().tolist(), strict=True))

    @property
    def temperature(self) -> float | None:
        """Tau of the joint embedding; None where there is none."""
        head = self.model.head
        return float(1 / head.scale().detach()) if isinstance(head, JointHead) else None

    def move_weights(self, gradient: Tensor, outer: OuterRecipe) -> None:
        """Take one step of Adam on the task weights."""
        self.weights.grad = gradient.to(self.weights.dtype)
        self.weights_optimizer.step()
        if outer.minimum is not None:
            with torch.no_grad():
                self.weights.clamp_(min=outer.minimum)

    def move_parameters(self, gradient: Params, lr: float, inner: InnerRecipe) -> None:
        """Take one step of the inner optimiser.

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
        if isinstance(self.model.head, JointHead):
            self.model.head.bound()


def new_training_state(
    recipe: Recipe,
    device: torch.device,
    tags: Sequence[Mapping[str, float | str]] = (),
    *,
    resumed: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> TrainingState:
    """Make a model with its first weights, seeded, on its device.

    Args:
        recipe: what to build.
        device: where.
        tags: of the photographs to learn from, for the levels of tags that are not ranked.
        resumed: a checkpoint will overwrite the weights: those to start from are not read again.
        say: told where the first weights come from.

    Raises:
        DetectorError: weights to start from that do not fit.
        DataError: a tag is to be aligned with its levels but no photograph has it.
    """
    torch.manual_seed(recipe.seed)
    model = PretextModel(recipe)
    if not resumed:
        _start(model, recipe, say)
    model = model.to(device)
    if recipe.compute.channels_last:
        model.vision = model.vision.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.compute.compile:
        model.vision.compile()
    aligned = recipe.losses.ordinal.target == "level"
    return TrainingState(model, recipe, _level_edges(recipe, tags) if aligned else {})


def _start(model: PretextModel, recipe: Recipe, say: Callable[[str], None]) -> None:
    """Load the weights to start from, and say which."""
    source = recipe.encoder.weights
    said = load_vision_weights(model.vision, source) if source else "random weights"
    say(f"vision encoder {recipe.encoder.name}: {said}")
    if isinstance(model.head, JointHead) and isinstance(model.head.text, TextEncoder):
        source = recipe.text.weights
        said = load_text_weights(model.head.text, source) if source else _RANDOM_TEXT
        frozen = ", and they stay: it is frozen" if recipe.text.frozen and not source else ""
        say(f"text encoder {recipe.text.name}: {said}{frozen}")


def _level_edges(recipe: Recipe, tags: Sequence[Mapping[str, float | str]]) -> dict[str, Tensor]:
    """Find the upper ends of the lower levels of every ordinal tag: as near to its terciles as ties allow."""
    found: dict[str, Tensor] = {}
    for name in recipe.tasks:
        task = tasks.TASKS[name]
        if task.kind is not tasks.TaskKind.ORDINAL:
            continue
        values = sorted(float(t[name]) for t in tags if name in t)
        found[name] = torch.tensor(_cuts(name, values, len(task.classes)), dtype=torch.float64)
    return found


def _cuts(name: str, values: Sequence[float], n_levels: int) -> list[float]:
    """Cut a tag into levels, as even as can be, between different values."""
    places = [i for i in range(1, len(values)) if values[i - 1] < values[i]]
    if not places:
        raise DataError(f"all photographs have the same {name}: remove it from tasks")
    wanted = [len(values) * k / n_levels for k in range(1, n_levels)]
    chosen = [min(places, key=lambda place: abs(place - goal)) for goal in wanted]
    return [(values[i - 1] + values[i]) / 2 for i in chosen]


def _optimizer(params: list[Tensor], inner: InnerRecipe) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if inner.optimizer == "adamw" else torch.optim.Adam
    return kind(params, lr=inner.lr, betas=inner.betas, weight_decay=inner.weight_decay)
