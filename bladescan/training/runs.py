"""The folder of an encoder run: written by training, read by ``fit`` and ``info``. It trains nothing.

::

    recipe.yaml             the resolved recipe
    history.jsonl           losses, task weights, learning rate, some lines per epoch; held-out measures
    encoder.safetensors     vision encoder, head, prompt embeddings; the manifest in its header
    checkpoint.safetensors  everything that training changes, after some step, to resume from
    losses.png, weights.png the history drawn
    detector.safetensors    of a run that learned what is AI-generated: it is a detector

Files are written beside their name and renamed when complete. Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from bladescan import __version__
from bladescan.base.errors import DetectorError, OutputError, UsageError
from bladescan.base.output_files import write_file
from bladescan.detectors.manifest import METADATA_KEY, EncoderSpec, Manifest, decode_manifest, encode_manifest
from bladescan.networks.encoders import (
    VISION_PREFIX,
    check_tensors,
    load_vision_state,
    new_vision_encoder,
    vision_state,
    with_prefix,
    without_prefix,
)
from bladescan.networks.text_encoders import TextEncoder
from bladescan.networks.vision_encoder import VisionEncoder
from bladescan.networks.weights import read_safetensors
from bladescan.pretext.model import JointHead
from bladescan.tasks.recipe import Recipe
from bladescan.tasks.recipe_files import dump_recipe, load_recipe, recipe_digest
from bladescan.training.state import TrainingState

ENCODER_FILE = "encoder.safetensors"
RECIPE_FILE = "recipe.yaml"
HISTORY_FILE = "history.jsonl"
CHECKPOINT_FILE = "checkpoint.safetensors"
DETECTOR_FILE = "detector.safetensors"
LOSSES_PLOT, WEIGHTS_PLOT = "losses.png", "weights.png"

HEAD_PREFIX = "head."
"""Prefix of the head's tensors in ``encoder.safetensors``."""
PROMPTS = "prompts"
"""The prompts' embeddings, of length 1, there beside the text encoder that made them."""

_MODEL = "model."
_OPTIMIZER = "optimizer."
_WEIGHTS = "task_weights"
_WEIGHTS_OPTIMIZER = "task_weights_optimizer."
_STEPS_KEY = "steps_done"
_PHOTOGRAPHS_KEY = "photographs"


@dataclass(frozen=True, slots=True, eq=False)
class EncoderRun:
    """What a run gives to ``fit``.

    Attributes:
        encoder: in evaluation mode.
        manifest: of a bare encoder, without heads; provenance filled in.
        head: tensors of the head that the tasks were learned with, by name.
    """

    encoder: VisionEncoder
    manifest: Manifest
    head: dict[str, Tensor]


def load_encoder_run(path: Path) -> EncoderRun:
    """Read the vision encoder of a run.

    Args:
        path: the run's folder, or its ``encoder.safetensors``.

    Raises:
        DetectorError: there is no finished run, or its file is truncated, foreign, newer or wrong.
    """
    file = path / ENCODER_FILE if path.is_dir() else path
    if not file.is_file():
        hint = "training has not finished: --resume it" if (path / RECIPE_FILE).is_file() else "not a run"
        raise DetectorError(f"{path}: has no {ENCODER_FILE}: {hint}")
    tensors, metadata = read_safetensors(file)
    if METADATA_KEY not in metadata:
        raise DetectorError(f"{file}: not made by bladescan: it has no manifest")
    manifest = decode_manifest(metadata[METADATA_KEY], where=str(file))
    spec = manifest.encoder
    encoder = new_vision_encoder(spec.name, spec.width, spec.embedding_dim)
    load_vision_state(encoder, without_prefix(tensors, VISION_PREFIX), where=str(file))
    return EncoderRun(encoder.eval(), manifest, without_prefix(tensors, HEAD_PREFIX))


def prepare(out_dir: Path, recipe: Recipe, *, resume: bool) -> None:
    """Make the folder, or check that it is the same run's.

    A run that never came to a line of history, because its data or its recipe were of no use, may be started
    again with another recipe.

    Raises:
        UsageError: it is not empty and not to be resumed, is no run, or was made by another recipe.
        OutputError: it cannot be made.
    """
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in out_dir.iterdir()}
    except OSError as exc:
        raise OutputError(f"{out_dir}: cannot be created: {exc.strerror or exc}") from exc
    saved = out_dir / RECIPE_FILE
    if names <= {RECIPE_FILE}:
        _write_text(saved, dump_recipe(recipe))
    elif not resume:
        raise UsageError(f"{out_dir}: is not empty: choose another folder, or --resume the run in it")
    elif RECIPE_FILE not in names:
        raise UsageError(f"{out_dir}: has no run to resume: leave --resume out, or choose another folder")
    elif recipe_digest(load_recipe(str(saved))) != recipe_digest(recipe):
        raise UsageError(
            f"{out_dir}: was started with another recipe (see {saved}): give that one, or another folder"
        )


def has_checkpoint(out_dir: Path) -> bool:
    """Tell whether there is anything to resume from."""
    return (out_dir / CHECKPOINT_FILE).exists()


def append_history(out_dir: Path, line: Mapping[str, Any]) -> None:
    """Add one line, in place of any line of the same or a later step that a killed run left."""
    kept = [known for known in read_history(out_dir) if known["step"] < line["step"]]
    _write_text(out_dir / HISTORY_FILE, "".join(json.dumps(known) + "\n" for known in [*kept, line]))


def read_history(out_dir: Path) -> list[dict[str, Any]]:
    """Read the lines of the history; none before the first step.

    Raises:
        DetectorError: the file is not a history.
    """
    path = out_dir / HISTORY_FILE
    try:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        history = [json.loads(line) for line in lines]
    except (OSError, ValueError) as exc:
        raise DetectorError(f"{path}: cannot be read: {exc}") from exc
    if not all(isinstance(line, dict) and isinstance(line.get("step"), int) for line in history):
        raise DetectorError(f"{path}: not the history of a training: a line has no step")
    return history


def save_checkpoint(out_dir: Path, state: TrainingState, n_steps: int, photographs: str) -> None:
    """Write everything that training changes: parameters, statistics, task weights, both optimisers.

    Args:
        out_dir: the run's folder.
        state: what is written.
        n_steps: done so far.
        photographs: digest of those that the run learns from and measures on.
    """
    tensors = {
        **with_prefix(state.model.state_dict(), _MODEL),
        **with_prefix(_moments(state.optimizer), _OPTIMIZER),
        **with_prefix(_moments(state.weights_optimizer), _WEIGHTS_OPTIMIZER),
        _WEIGHTS: state.weights,
    }
    _save(out_dir / CHECKPOINT_FILE, tensors, {_STEPS_KEY: str(n_steps), _PHOTOGRAPHS_KEY: photographs})


def load_checkpoint(out_dir: Path, state: TrainingState, photographs: str) -> int:
    """Restore what `save_checkpoint` wrote.

    Returns:
        The number of finished steps; 0, with nothing restored, if there is no checkpoint.

    Raises:
        DetectorError: the checkpoint is broken.
        UsageError: it was made from other photographs.
    """
    path = out_dir / CHECKPOINT_FILE
    if not path.exists():
        return 0
    tensors, metadata = read_safetensors(path)
    if metadata.get(_PHOTOGRAPHS_KEY, photographs) != photographs:
        raise UsageError(
            f"{out_dir}: was started with other photographs, or another face finder: give the same, "
            f"or choose another folder"
        )
    try:
        state.model.load_state_dict(without_prefix(tensors, _MODEL))
        _restore(state.optimizer, without_prefix(tensors, _OPTIMIZER))
        _restore(state.weights_optimizer, without_prefix(tensors, _WEIGHTS_OPTIMIZER))
        state.weights.data.copy_(tensors[_WEIGHTS])
        return int(metadata[_STEPS_KEY])
    except (RuntimeError, ValueError, KeyError) as exc:
        raise DetectorError(f"{path}: does not fit this recipe: {' '.join(str(exc).split())}") from exc


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def _restore(optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in moments.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


@torch.no_grad()
def save_encoder(out_dir: Path, state: TrainingState, recipe: Recipe, *, n_photographs: int) -> None:
    """Write the finished encoder.

    Args:
        out_dir: the run's folder.
        state: the trained model and its task weights.
        recipe: goes into the manifest's provenance by its digest.
        n_photographs: learned from.
    """
    model = state.model
    tensors = with_prefix(vision_state(model.vision), VISION_PREFIX)
    tensors |= with_prefix(model.head.state_dict(), HEAD_PREFIX)
    if isinstance(model.head, JointHead):
        tensors[PROMPTS] = model.head.prompts()
    solid = {key: value.detach().cpu().float() for key, value in tensors.items()}
    check_tensors(solid, {k: tuple(v.shape) for k, v in solid.items()}, where=str(out_dir))
    manifest = _encoder_manifest(state, recipe, n_photographs)
    _save(out_dir / ENCODER_FILE, solid, {METADATA_KEY: encode_manifest(manifest)})


def _encoder_manifest(state: TrainingState, recipe: Recipe, n_photographs: int) -> Manifest:
    encoder, head = recipe.encoder, state.model.head
    text = head.text if isinstance(head, JointHead) else None
    return Manifest(
        name=recipe.name,
        encoder=EncoderSpec(encoder.name, encoder.width, encoder.embedding_dim, normalise=recipe.normalise),
        text=text.describe() if isinstance(text, TextEncoder) else None,
        provenance={
            "recipe": recipe.name,
            "recipe_sha256": recipe_digest(recipe),
            "seed": recipe.seed,
            "n_photographs": n_photographs,
            "task_weights": {name: round(w, 4) for name, w in state.named(state.weights).items()},
            "head": recipe.head,
            "tasks": list(recipe.tasks),
            "text": recipe.text.name if recipe.head == "joint" else None,
            "versions": {"bladescan": __version__, "torch": str(torch.__version__)},
        },
    )


def _save(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    solid = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    write_file(path, save(solid, metadata=metadata))


def _write_text(path: Path, text: str) -> None:
    write_file(path, text.encode())
