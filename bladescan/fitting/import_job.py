"""One import of a released checkpoint: an encoder run or, with photographs to calibrate it, a detector."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from safetensors.torch import save

from bladescan import __version__
from bladescan.base.errors import DataError, OutputError, UsageError
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
from bladescan.detectors.measured import rates_by_source
from bladescan.fitting.binary_fit import binary_scores
from bladescan.fitting.features import embed_images, encoder_backend, open_encoder
from bladescan.fitting.released_checkpoints import (
    EMBEDDING_DIM,
    HIDDEN,
    KINDS,
    ReleasedCheckpoint,
    read_checkpoint,
)
from bladescan.heads.detector import Detector, save_detector
from bladescan.networks.encoders import (
    VISION_PREFIX,
    with_prefix,
)
from bladescan.networks.text_encoders import TEXT_ENCODERS
from bladescan.runtimes.backend import BackendSettings
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.sources.source import Source
from bladescan.training.runs import ENCODER_FILE, HEAD_PREFIX

_logger = logging.getLogger(__name__)
CLASSIFIER_PREFIX = "classifier."
"""Prefix of the binary head's tensors in the run of a ``bc`` checkpoint."""


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
    backend: str = "auto"
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


def _manifest(found: ReleasedCheckpoint, options: ImportOptions) -> Manifest:
    kind, clip = KINDS[found.kind], TEXT_ENCODERS["clip"]
    text = (
        TextEncoderSpec("clip", clip.layers, clip.width, clip.width // 64)
        if found.kind != "aigfd-exif"
        else None
    )
    return Manifest(
        name=options.name or f"{kind.title} (authors' weights)",
        encoder=EncoderSpec("resnet50", 64, EMBEDDING_DIM, normalise=kind.normalise),
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
    """Check before the work: a detector is a .safetensors file, a run is a new or empty folder."""
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


def _write_run(out: Path, manifest: Manifest, found: ReleasedCheckpoint) -> None:
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
    found: ReleasedCheckpoint,
    photographs: Iterable[Source],
    options: ImportOptions,
    seen: Callable[[int], None],
) -> Detector:
    """Calibrate the binary head by its scores of photographs that it was not fitted on."""
    decoder = options.decoder.for_detector(manifest)
    encoder = Detector(msgspec.structs.replace(manifest, text=None), found.vision)
    features_by = encoder_backend(encoder, options.backend)
    with open_encoder(encoder, features_by, options.runtime) as backend:
        features = embed_images(photographs, backend, decoder, n_decoders=options.n_decoders, progress=seen)
    n, needed = len(features.embeddings), needed_photographs(options.false_alarm)
    if n < needed:
        raise DataError(
            f"{n} faces to calibrate on, but a false-alarm rate of {options.false_alarm:g} needs at least "
            f"{needed}: give more photographs"
        )
    scores = binary_scores(found.classifier, features.embeddings)
    head = CalibratedHead(compress_calibration(scores), n, {"hidden": HIDDEN, "fitted_by": "the authors"})
    for notice in features.notices:
        _logger.warning("%s", notice)
    sources = [os.path.basename(folder) for folder in features.folders.tolist()]
    counts: dict[str, Any] = {"images": features.n_images, "faces": n, "skipped": features.skipped}
    calibrated = msgspec.structs.replace(
        encoder.manifest,
        heads={"binary": head},
        default_head="binary",
        default_false_alarm=options.false_alarm,
        measured=rates_by_source("binary", scores, sources, options.false_alarm),
        face_rule=msgspec.structs.replace(manifest.face_rule, finder=features.finder),
        provenance={**manifest.provenance, "features_by": features_by, "calibration": counts},
    )
    return Detector(calibrated, found.vision, None, found.classifier)


def _notices(found: ReleasedCheckpoint, *, calibrated: bool = False) -> list[str]:
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
