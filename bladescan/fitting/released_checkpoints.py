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

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from safetensors.torch import save
from torch import Tensor

from bladescan import __version__
from bladescan.base.errors import DataError, DetectorError, OutputError, UsageError
from bladescan.base.output_files import write_file
from bladescan.detectors.calibration import compress_calibration, needed_photographs
from bladescan.detectors.manifest import (
    METADATA_KEY,
    CalibratedHead,
    EncoderSpec,
    FaceRule,
    Manifest,
    TextEncoderSpec,
    encode_manifest,
)
from bladescan.fitting.features import embed_images, open_encoder
from bladescan.fitting.fit import binary_scores
from bladescan.heads.classifier import Classifier
from bladescan.heads.detector import Detector, save_detector
from bladescan.networks.encoders import (
    VISION_PREFIX,
    check_tensors,
    new_vision_encoder,
    vision_shapes,
    with_prefix,
    without_prefix,
)
from bladescan.networks.text_encoders import TEXT_ENCODERS, TEXT_PREFIX, published_shapes
from bladescan.networks.weights import read_weights
from bladescan.runtimes.backend import BackendSettings
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.sources.source import Source
from bladescan.training.runs import ENCODER_FILE, HEAD_PREFIX

CLASSIFIER_PREFIX = "classifier."
"""Prefix of the binary head's tensors in the run of a ``bc`` checkpoint."""

_EMBEDDING_DIM = 768
_HIDDEN = 1536
_COUNTERS = ".num_batches_tracked"
_SCALAR_HEADS = ("fc_iso", "fc_av", "fc_et", "fc_fl", "fc_face")
_TEXT_LEFT_OVER = ("token_embedding.", "positional_embedding", "ln_final.", "logit_scale")


class _Kind(NamedTuple):
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


KINDS: dict[str, _Kind] = {
    "oc": _Kind("BLADES one-class", "model.", True, "", "arXiv:2507.22824"),
    "bc": _Kind("BLADES binary", "model.model.", True, "", "arXiv:2507.22824"),
    "aigfd-exif": _Kind("AIGFD-EXIF", "model.", False, "CC-BY-NC-SA-2.0", "arXiv:2501.02207"),
}
"""What `read_checkpoint` tells apart. A licence is given where the authors' repository states one."""


class Checkpoint(NamedTuple):
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


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the user asked of an import.

    Attributes:
        checkpoint: the authors' file.
        out: the run's folder, new or empty; with photographs, the detector to write.
        name: of the run or the detector; empty for one by the kind of checkpoint.
        false_alarm: default rate of the detector.
    """

    checkpoint: Path
    out: Path
    name: str = ""
    backend: str = "pytorch"
    runtime: BackendSettings = BackendSettings()
    decoder: DecoderSettings = DecoderSettings()
    n_decoders: int = 1
    false_alarm: float = 0.05


class Imported(NamedTuple):
    """What an import wrote.

    Attributes:
        path: the encoder run's folder or the detector's file.
        manifest: in it.
        notices: lines for the user.
    """

    path: Path
    manifest: Manifest
    notices: tuple[str, ...]


def run_import(
    options: ImportOptions,
    photographs: Iterable[Source] | None = None,
    *,
    seen: Callable[[int], None] = lambda n: None,
) -> Imported:
    """Turn a checkpoint into an encoder run or, with photographs to calibrate it, ``bc`` into a detector.

    Args:
        options: what the user asked.
        photographs: camera photographs that the checkpoint has not seen; only for a binary head.
        seen: told of each photograph embedded.

    Raises:
        DetectorError: the file is not one of the authors', or a tensor of it is not what it should be.
        UsageError: photographs for a checkpoint that they cannot calibrate, or a place that does not suit.
        DataError: too few photographs for the false-alarm rate.
        OutputError: the result cannot be written.
    """
    _check_place(options.out, detector=photographs is not None)
    found = read_checkpoint(options.checkpoint)
    manifest = _manifest(found, options)
    if photographs is None:
        _write_run(options.out, manifest, found)
        return Imported(options.out, manifest, tuple(_notices(found)))
    if not found.classifier:
        raise UsageError(
            f"{options.checkpoint}: has no binary head to calibrate: import it without --photos, then run "
            "bladescan fit --encoder RUN --photos PHOTOS"
        )
    detector = _calibrated(manifest, found, photographs, options, seen)
    save_detector(detector, options.out)
    return Imported(options.out, detector.manifest, tuple(_notices(found, calibrated=True)))


def read_checkpoint(path: Path) -> Checkpoint:
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
    return Checkpoint(
        kind=kind,
        vision=without_prefix(floats, prefix + "visual."),
        head=_head(text) if kind != "aigfd-exif" else _only(floats, _SCALAR_HEADS),
        classifier=_only(floats, ("fc1", "fc2")),
        passed_over=tuple(sorted(optional)),
        sha256=weights.sha256,
    )


def _kind_of(given: Mapping[str, Tensor], *, where: str) -> str:
    """By what only one kind has; the tensors themselves are checked later."""
    if any(key.startswith("model.model.visual.") for key in given):
        return "bc"
    if any(key.startswith("model.visual.") for key in given):
        return "aigfd-exif" if any(key.startswith(_SCALAR_HEADS) for key in given) else "oc"
    raise DetectorError(
        f"{where}: none of the authors' checkpoints (OC.pth, BC.pth, AIGFD-EXIF): no tensor is called "
        "model.visual.* or model.model.visual.*"
    )


def _wanted(kind: str) -> dict[str, tuple[int, ...]]:
    """Shapes by the authors' names."""
    with torch.device("meta"):
        vision = vision_shapes(new_vision_encoder("resnet50", embedding_dim=_EMBEDDING_DIM))
    prefix = KINDS[kind].model
    shapes = {f"{prefix}visual.{key}": shape for key, shape in vision.items()}
    if kind == "aigfd-exif":
        for head in _SCALAR_HEADS:
            shapes |= {f"{head}.weight": (1, _EMBEDDING_DIM), f"{head}.bias": (1,)}
        return shapes
    text = published_shapes("clip", _EMBEDDING_DIM)
    shapes |= {prefix + key: shape for key, shape in text.items()} | {prefix + "logit_scale": ()}
    if kind == "bc":
        with torch.device("meta"):
            classifier = Classifier(_EMBEDDING_DIM, _HIDDEN).state_dict()
        shapes |= {key: tuple(value.shape) for key, value in classifier.items()}
    return shapes


def _is_left_over(key: str) -> bool:
    """Whether it is a part of CLIP that the predecessor carries along: its network has no text side."""
    return key.startswith(_TEXT_LEFT_OVER)


def _head(text: Mapping[str, Tensor]) -> dict[str, Tensor]:
    place = TEXT_PREFIX.removeprefix(HEAD_PREFIX)
    return {key if key == "logit_scale" else place + key: value for key, value in text.items()}


def _only(state: Mapping[str, Tensor], modules: tuple[str, ...]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.partition(".")[0] in modules}


def _manifest(found: Checkpoint, options: ImportOptions) -> Manifest:
    kind, clip = KINDS[found.kind], TEXT_ENCODERS["clip"]
    text = (
        TextEncoderSpec("clip", clip.layers, clip.width, clip.width // 64)
        if found.kind != "aigfd-exif"
        else None
    )
    return Manifest(
        name=options.name or f"{kind.title} (authors' weights)",
        encoder=EncoderSpec("resnet50", 64, _EMBEDDING_DIM, normalise=kind.normalise),
        # Their test images are whole, cropped faces, and their resize knows no antialiasing.
        face_rule=FaceRule(finder="none", resize="bilinear"),
        text=text,
        licence=kind.licence,
        provenance={
            "imported": found.kind,
            "checkpoint": options.checkpoint.name,
            "checkpoint_sha256": found.sha256,
            "reference": kind.reference,
            "passed_over": list(found.passed_over),
            "versions": {"bladescan": __version__, "torch": str(torch.__version__)},
        },
    )


def _check_place(out: Path, *, detector: bool) -> None:
    """Before the work: a detector is a .safetensors file, a run is a new or empty folder."""
    is_file_name = out.suffix.lower() == ".safetensors"
    if detector and (not is_file_name or out.is_dir()):
        raise UsageError(f"{out}: with photographs the import writes a detector: name a .safetensors file")
    if not detector and is_file_name:
        raise UsageError(
            f"{out}: without photographs the import writes an encoder run: name a folder; a detector needs "
            "--photos to calibrate it"
        )
    try:
        if not detector and out.exists() and any(out.iterdir()):
            raise UsageError(f"{out}: is not empty: choose another folder")
    except OSError as exc:
        raise OutputError(f"{out}: cannot be created: {exc.strerror or exc}") from exc


def _write_run(out: Path, manifest: Manifest, found: Checkpoint) -> None:
    tensors = with_prefix(found.vision, VISION_PREFIX)
    tensors |= with_prefix(found.head, HEAD_PREFIX)
    tensors |= with_prefix(found.classifier, CLASSIFIER_PREFIX)
    solid = {key: value.contiguous() for key, value in tensors.items()}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{out}: cannot be created: {exc.strerror or exc}") from exc
    write_file(out / ENCODER_FILE, save(solid, metadata={METADATA_KEY: encode_manifest(manifest)}))


def _calibrated(
    manifest: Manifest,
    found: Checkpoint,
    photographs: Iterable[Source],
    options: ImportOptions,
    seen: Callable[[int], None],
) -> Detector:
    """The binary head with its scores of the photographs, none of which it was fitted on."""
    decoder = options.decoder.for_detector(manifest)
    encoder = Detector(msgspec.structs.replace(manifest, text=None), found.vision)
    with open_encoder(encoder, options.backend, options.runtime) as backend:
        features = embed_images(photographs, backend, decoder, n_decoders=options.n_decoders, progress=seen)
    n, needed = len(features.embeddings), needed_photographs(options.false_alarm)
    if n < needed:
        raise DataError(
            f"{n} faces to calibrate on, but a false-alarm rate of {options.false_alarm:g} needs at least "
            f"{needed}: give more photographs"
        )
    scores = binary_scores(found.classifier, features.embeddings)
    head = CalibratedHead(compress_calibration(scores), n, {"hidden": _HIDDEN, "fitted_by": "the authors"})
    counts: dict[str, Any] = {"images": features.n_images, "faces": n, "skipped": features.skipped}
    calibrated = msgspec.structs.replace(
        encoder.manifest,
        heads={"binary": head},
        default_head="binary",
        default_false_alarm=options.false_alarm,
        face_rule=msgspec.structs.replace(manifest.face_rule, finder=features.finder),
        provenance={**manifest.provenance, "features_by": options.backend, "calibration": counts},
    )
    return Detector(calibrated, found.vision, None, found.classifier)


def _notices(found: Checkpoint, *, calibrated: bool = False) -> list[str]:
    kind = KINDS[found.kind]
    licence = f"{kind.licence}: not for commercial use" if kind.licence else "none stated: ask its authors"
    lines = [f"{kind.title}: every tensor is as published; licence {licence}"]
    if found.classifier and not calibrated:
        lines.append(
            "its binary head is kept in the run but cannot decide before it is calibrated: import the file "
            "again with --photos, to a .safetensors detector"
        )
    if found.passed_over:
        lines.append(f"{len(found.passed_over)} tensors of CLIP's text side are left out: nothing uses them")
    return lines
