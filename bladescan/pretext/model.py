"""The model of the pretext tasks: a vision encoder, a head that answers the tasks, and their losses.

A head turns embeddings into *outputs*, some columns for each task; a task's columns are found by its name.

- ``joint``: similarities with the embeddings of the prompts, s(x, t) = <f(x), g(t)> / tau (the paper).
- ``linear``: one linear output per class (the ablation without joint embedding).
- ``scalar``: one linear output per ordinal tag and one for manipulation (the predecessor, AIGFD-EXIF).

References:
    Zou et al., arXiv:2507.22824, section 3; arXiv:2501.02207 for the scalar head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from bladescan.detectors.manifest import Preprocessing
from bladescan.networks.encoders import new_vision_encoder
from bladescan.networks.text_encoders import TextEncoder
from bladescan.pretext.losses import categorical_loss, coarse_loss, expected_level, fine_loss, ordinal_loss
from bladescan.tasks import pretext_tasks as tasks
from bladescan.tasks.recipe import LossRecipe, Recipe, TextRecipe

MAX_SCALE = 100.0
"""CLIP's bound on 1 / tau."""


class PromptTable(nn.Module):
    """One learned vector per prompt; the words are not read.

    Args:
        n_prompts: how many.
        embedding_dim: their length.
    """

    def __init__(self, n_prompts: int, embedding_dim: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(n_prompts, embedding_dim))

    def forward(self) -> Tensor:
        """Give the vectors, ``[n_prompts, embedding_dim]``."""
        return self.vectors


class JointHead(nn.Module):
    """Similarities of images and prompts; as many outputs as prompts.

    Args:
        names: the tasks.
        recipe: which text encoder, and tau at the start.
        embedding_dim: length of both embeddings.
    """

    def __init__(self, names: Sequence[str], recipe: TextRecipe, embedding_dim: int) -> None:
        super().__init__()
        self.columns = tasks.prompt_columns(names)
        self.text = _text_encoder(tasks.prompts(names), recipe, embedding_dim)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(recipe.temperature)))
        self._frozen: Tensor | None = None
        self._is_frozen = recipe.frozen and isinstance(self.text, TextEncoder)
        if self._is_frozen:
            # Not its last layer, which is ours: it makes the two embeddings equally long.
            frozen = (p for name, p in self.text.named_parameters() if not name.startswith("text_fc."))
            for parameter in frozen:
                parameter.requires_grad_(False)

    def prompts(self) -> Tensor:
        """Embed the prompts: ``[n_prompts, embedding_dim]``, of length 1."""
        if not self._is_frozen:
            return normalize(self.text(), dim=1)
        assert isinstance(self.text, TextEncoder)
        if self._frozen is None or self._frozen.device != self.logit_scale.device:
            with torch.no_grad():
                self._frozen = self.text.states()
        return normalize(self.text.embed(self._frozen), dim=1)

    def forward(self, embedding: Tensor) -> Tensor:
        """Compute similarities ``[b, n_prompts]`` of raw embeddings ``[b, embedding_dim]``, s(x, t)."""
        similarities: Tensor = normalize(embedding, dim=1) @ self.prompts().T * self.scale()
        return similarities

    def scale(self) -> Tensor:
        """Compute 1 / tau, a scalar."""
        return self.logit_scale.exp()

    @torch.no_grad()
    def bound(self) -> None:
        """Hold 1 / tau at `MAX_SCALE`: to be called after a step."""
        self.logit_scale.clamp_(max=math.log(MAX_SCALE))


class LinearHead(nn.Linear):
    """One linear output per class of every task.

    Args:
        names: the tasks.
        embedding_dim: inputs.
    """

    def __init__(self, names: Sequence[str], embedding_dim: int) -> None:
        super().__init__(embedding_dim, len(tasks.prompts(names)))
        self.columns = tasks.prompt_columns(names)


class ScalarHead(nn.Linear):
    """One linear output per task: the level of an ordinal tag, the logit of manipulation.

    Args:
        names: the tasks.
        embedding_dim: inputs.
    """

    def __init__(self, names: Sequence[str], embedding_dim: int) -> None:
        super().__init__(embedding_dim, len(names))
        self.columns = {name: slice(i, i + 1) for i, name in enumerate(names)}


Head = JointHead | LinearHead | ScalarHead


class PretextModel(nn.Module):
    """Pixels to the outputs of all pretext tasks.

    Args:
        recipe: architecture, head and tasks.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        encoder, preprocessing = recipe.encoder, Preprocessing()
        self.vision = new_vision_encoder(
            encoder.name, encoder.width, encoder.embedding_dim, zero_init=encoder.zero_init
        )
        self.head = _head(recipe)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    @property
    def columns(self) -> Mapping[str, slice]:
        """Where each task's outputs stand."""
        return self.head.columns

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute outputs ``[b, n_outputs]`` of uint8 RGB crops ``[b, h, w, 3]``."""
        # A permuted view of channels-last bytes: converting it keeps the layout that convolutions like.
        x = (pixels.permute(0, 3, 1, 2).to(self.mean.dtype) / 255 - self.mean) / self.std
        embedding = self.vision(x)
        # Under autocast the encoder alone is rounded: prompts of one task may differ in the third digit.
        with torch.autocast(x.device.type, enabled=False):
            outputs: Tensor = self.head(embedding.to(self.mean.dtype))
        return outputs


def task_losses(
    outputs: Tensor, targets: Mapping[str, Tensor], columns: Mapping[str, slice], recipe: LossRecipe
) -> Tensor:
    """Compute the losses of all tasks ``[t]``, in the order of ``columns``, at least in float32.

    Args:
        outputs: ``[b, n_outputs]`` of a head.
        targets: by task name, see `Batch`; an ordinal tag that comes as classes (int64)
            is aligned with its level prompts instead of ranked.
        columns: of each task in ``outputs``.
        recipe: the variants.
    """
    exact = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    return torch.stack(
        [_loss(name, exact[:, where], targets[name], recipe) for name, where in columns.items()]
    )


def _loss(name: str, outputs: Tensor, targets: Tensor, recipe: LossRecipe) -> Tensor:
    kind = tasks.find_task(name).kind
    if kind is tasks.TaskKind.COARSE:
        return coarse_loss(coarse_outputs(outputs), targets, eps=recipe.eps, distance=recipe.classes)
    if kind is tasks.TaskKind.FINE:
        return fine_loss(outputs, targets, eps=recipe.eps)
    if kind is tasks.TaskKind.CATEGORICAL or not targets.is_floating_point():
        return categorical_loss(outputs, targets, gamma=recipe.gamma, eps=recipe.eps, distance=recipe.classes)
    ordinal = recipe.ordinal
    return ordinal_loss(
        levels(outputs),
        targets,
        probability=ordinal.probability,
        pairs=ordinal.pairs,
        ties=ordinal.ties,
        eps=recipe.eps,
    )


def coarse_outputs(outputs: Tensor) -> Tensor:
    """Return two columns ``[b, 2]``, photographic and manipulated, also for a scalar head's one logit."""
    return outputs if outputs.shape[1] == 2 else torch.cat((torch.zeros_like(outputs), outputs), 1)


def levels(outputs: Tensor) -> Tensor:
    """Compute r(x) of an ordinal tag, ``[b]``: the expected level of its prompts, or a scalar head's."""
    return outputs[:, 0] if outputs.shape[1] == 1 else expected_level(outputs)


def _head(recipe: Recipe) -> Head:
    names = list(recipe.tasks)
    match recipe.head:
        case "joint":
            return JointHead(names, recipe.text, recipe.encoder.embedding_dim)
        case "linear":
            return LinearHead(names, recipe.encoder.embedding_dim)
        case "scalar":
            return ScalarHead(names, recipe.encoder.embedding_dim)


def _text_encoder(prompts: Sequence[str], recipe: TextRecipe, embedding_dim: int) -> nn.Module:
    if recipe.name == "table":
        return PromptTable(len(prompts), embedding_dim)
    return TextEncoder(
        recipe.name,
        prompts,
        embedding_dim=embedding_dim,
        layers=recipe.layers,
        width=recipe.width,
        heads=recipe.heads,
    )
