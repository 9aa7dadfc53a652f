"""The authors' released checkpoints: read, checked key by key, and written as an encoder run or a detector.

Three kinds are known, by the names of their tensors:

- ``oc`` (BLADES, ``OC.pth``): ResNet-50, CLIP's text transformer, temperature.
- ``bc`` (BLADES, ``BC.pth``): the same under one prefix more, and the perceptron of the binary head.
- ``aigfd-exif`` (the predecessor): ResNet-50 and five scalar heads.

A file holds no calibration, so a binary head decides only after photographs have calibrated it.

References:
    Zou et al., arXiv:2507.22824 and arXiv:2501.02207; what the files hold follows the authors' released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from bladescan.base.errors import DetectorError
from bladescan.heads.classifier import Classifier
from bladescan.networks.encoders import (
    check_tensors,
    new_vision_encoder,
    vision_shapes,
    without_prefix,
)
from bladescan.networks.text_encoders import TEXT_PREFIX, published_shapes
from bladescan.networks.weights import read_weights
from bladescan.training.runs import HEAD_PREFIX

EMBEDDING_DIM = 768

HIDDEN = 1536

_COUNTERS = ".num_batches_tracked"

_SCALAR_HEADS = ("fc_iso", "fc_av", "fc_et", "fc_fl", "fc_face")

_TEXT_LEFT_OVER = ("token_embedding.", "positional_embedding", "ln_final.", "logit_scale")


class CheckpointKind(NamedTuple):
    """How a kind of checkpoint is laid out and what is said of it.

    Attributes:
        model: prefix of CLIP's tensors, the vision encoder among them as ``visual.``.
        normalise: whether its heads were fitted on embeddings of length 1.
    """

    title: str
    model: str
    normalise: bool
    licence: str
    reference: str


KINDS: dict[str, CheckpointKind] = {
    "oc": CheckpointKind("BLADES one-class", "model.", True, "", "arXiv:2507.22824"),
    "bc": CheckpointKind("BLADES binary", "model.model.", True, "", "arXiv:2507.22824"),
    "aigfd-exif": CheckpointKind("AIGFD-EXIF", "model.", False, "CC-BY-NC-SA-2.0", "arXiv:2501.02207"),
}
"""What `read_checkpoint` tells apart. A licence is given where the authors' repository states one."""


class ReleasedCheckpoint(NamedTuple):
    """One of the authors' files, its tensors in float32 under our names.

    Attributes:
        kind: a key of `KINDS`.
        vision: the encoder's, by torchvision name, without batch-norm counters.
        head: of the pretext tasks: ``text.*`` and ``logit_scale``, or the scalar heads by the authors' names.
        classifier: ``fc1`` and ``fc2`` of a `Classifier`; empty but in ``bc``.
        passed_over: parts of CLIP that the file holds and its method does not use.
        sha256: of the file.
    """

    kind: str
    vision: dict[str, Tensor]
    head: dict[str, Tensor]
    classifier: dict[str, Tensor]
    passed_over: tuple[str, ...]
    sha256: str


def read_checkpoint(path: Path) -> ReleasedCheckpoint:
    """Read one of the authors' files and check every tensor of it.

    Raises:
        DetectorError: it cannot be read, is of no known kind, or a tensor is missing, unexpected, of another
            shape or not finite.
    """
    weights = read_weights(path)
    given, where = weights.tensors, str(path)
    kind = _kind_of(given, where=where)
    wanted = _wanted(kind)
    prefix = KINDS[kind].model
    optional = {key for key in given if kind == "aigfd-exif" and _is_left_over(key.removeprefix(prefix))}
    counters = {key for key in given if key.endswith(_COUNTERS) and key.startswith(prefix + "visual.")}
    kept = {key: value for key, value in given.items() if key not in optional | counters}
    check_tensors(kept, wanted, where=where)
    floats = {key: value.float() for key, value in kept.items()}
    text = {key: v for key, v in without_prefix(floats, prefix).items() if not key.startswith("visual.")}
    return ReleasedCheckpoint(
        kind=kind,
        vision=without_prefix(floats, prefix + "visual."),
        head=_head(text) if kind != "aigfd-exif" else _only(floats, _SCALAR_HEADS),
        classifier=_only(floats, ("fc1", "fc2")),
        passed_over=tuple(sorted(optional)),
        sha256=weights.sha256,
    )


def _kind_of(given: Mapping[str, Tensor], *, where: str) -> str:
    """Tell the kind by what only it has; the tensors themselves are checked later."""
    if any(key.startswith("model.model.visual.") for key in given):
        return "bc"
    if any(key.startswith("model.visual.") for key in given):
        return "aigfd-exif" if any(key.startswith(_SCALAR_HEADS) for key in given) else "oc"
    raise DetectorError(
        f"{where}: none of the authors' checkpoints (OC.pth, BC.pth, AIGFD-EXIF): no tensor is called "
        "model.visual.* or model.model.visual.*"
    )


def _wanted(kind: str) -> dict[str, tuple[int, ...]]:
    """List the wanted shapes by the authors' names."""
    with torch.device("meta"):
        vision = vision_shapes(new_vision_encoder("resnet50", embedding_dim=EMBEDDING_DIM))
    prefix = KINDS[kind].model
    shapes = {f"{prefix}visual.{key}": shape for key, shape in vision.items()}
    if kind == "aigfd-exif":
        for head in _SCALAR_HEADS:
            shapes |= {f"{head}.weight": (1, EMBEDDING_DIM), f"{head}.bias": (1,)}
        return shapes
    text = published_shapes("clip", EMBEDDING_DIM)
    shapes |= {prefix + key: shape for key, shape in text.items()} | {prefix + "logit_scale": ()}
    if kind == "bc":
        with torch.device("meta"):
            classifier = Classifier(EMBEDDING_DIM, HIDDEN).state_dict()
        shapes |= {key: tuple(value.shape) for key, value in classifier.items()}
    return shapes


def _is_left_over(key: str) -> bool:
    """Tell the parts of CLIP that the predecessor carries along: its network has no text side."""
    return key.startswith(_TEXT_LEFT_OVER)


def _head(text: Mapping[str, Tensor]) -> dict[str, Tensor]:
    place = TEXT_PREFIX.removeprefix(HEAD_PREFIX)
    return {key if key == "logit_scale" else place + key: value for key, value in text.items()}


def _only(state: Mapping[str, Tensor], modules: tuple[str, ...]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.partition(".")[0] in modules}
