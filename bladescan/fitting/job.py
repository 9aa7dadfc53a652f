"""One fit from folders to a detector: encoder, features by any backend, heads, calibration."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from bladescan import __version__
from bladescan.base.errors import DetectorError, UnknownNameError, UsageError
from bladescan.base.output_files import check_output
from bladescan.detectors.collections import collection_names
from bladescan.detectors.manifest import PICTURE_RULE, Manifest, PictureRule, Subject
from bladescan.detectors.shipped import SAFETENSORS, named_detector
from bladescan.exporting.onnx import export_onnx
from bladescan.fitting.copies import SeenImages
from bladescan.fitting.embedding_file import open_embedding_file
from bladescan.fitting.features import GROUPINGS, Features, embed_images, encoder_backend, open_encoder
from bladescan.fitting.fit_settings import FitSettings, check_settings
from bladescan.fitting.heads_fit import (
    DegradedCopies,
    FitFaces,
    Progress,
    fit_detector,
)
from bladescan.foreign.encoders import is_foreign, load_foreign_encoder
from bladescan.heads.detector import Detector, load_detector, save_detector
from bladescan.networks.encoders import complexity, vision_state
from bladescan.runtimes.backend import BackendSettings
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.sources.given import Given, sources_of, sources_there
from bladescan.training.runs import load_encoder_run

DEFAULT_ENCODER = "default"
"""The encoder of the default detector."""


@dataclass(frozen=True, slots=True)
class FitOptions:
    """What the user asked of a fit.

    Attributes:
        encoder: an encoder run, a ``.safetensors`` detector or the name of one that ships, ``default``, or
            another image encoder: ``onnx:FILE``, or ``torch:FILE`` for weights of a known layout.
        encoder_changes: ``encoder.KEY=VALUE`` for another image encoder, see
            `bladescan.foreign.layout.EncoderLayout`.
        name: of the new detector.
        licence: of the new detector, empty keeps the encoder's.
        group_by: ``file`` or ``folder``: what must not be split between fit and calibration.
        n_copies: degraded copies of each face that the heads learn from beside it.
        embeddings: file to keep embeddings in and to take them from; None keeps none.
        subject: what the detector is to judge: faces, or whole pictures.
        picture_rule: how whole pictures are viewed.
    """

    encoder: str = DEFAULT_ENCODER
    encoder_changes: tuple[str, ...] = ()
    name: str = "detector"
    licence: str = ""
    backend: str = "auto"
    group_by: str = "file"
    n_copies: int = 0
    embeddings: Path | None = None
    runtime: BackendSettings = BackendSettings()
    decoder: DecoderSettings = DecoderSettings()
    fit: FitSettings = FitSettings()
    n_decoders: int = 1
    subject: Subject = "face"
    picture_rule: PictureRule = PICTURE_RULE


def load_encoder(encoder: str, changes: Sequence[str] = ()) -> Detector:
    """Load a bare encoder: of a run, of a detector (its heads dropped), the shipped one's, or a stranger's.

    Args:
        encoder: see `FitOptions`.
        changes: ``encoder.KEY=VALUE``, for a stranger's.

    Raises:
        DetectorError: there is none at that place, or it is an export.
        RecipeError: ``changes`` that cannot be.
        UsageError: ``changes`` of an encoder of ours; a name that is none, or of a detector that ships
            without weights to build on.
    """
    if is_foreign(encoder):
        return load_foreign_encoder(encoder, changes)
    if changes:
        raise UsageError(
            "--set is for --encoder onnx:FILE and torch:FILE: an encoder of ours says it all itself"
        )
    asked = None if encoder == DEFAULT_ENCODER else encoder
    path = named_detector(asked, (".safetensors",)) or SAFETENSORS
    if path.suffix.lower() == ".onnx":
        raise DetectorError(
            f"{path}: an export has no weights to build on; give the .safetensors detector or the encoder "
            f"run, or onnx:{path} for an image encoder that is not ours"
        )
    if not path.is_dir():
        detector = load_detector(path)
        return Detector(_bare(detector.manifest), detector.vision, None, None)
    run = load_encoder_run(path)
    n_parameters, n_multiply_adds = complexity(run.encoder)
    about = {"encoder_parameters": n_parameters, "encoder_multiply_adds": n_multiply_adds}
    manifest = _bare(run.manifest)
    manifest = msgspec.structs.replace(manifest, provenance={**manifest.provenance, **about})
    return Detector(manifest, vision_state(run.encoder), None, None)


def fit(
    photographs: Given,
    options: FitOptions = FitOptions(),  # noqa: B008 (it is frozen)
    *,
    ai_generated: Given | None = None,
    calibration: Given | None = None,
    seen: Callable[[int], None] = lambda n: None,
    progress: Progress = lambda stage, done, total: None,
) -> Detector:
    """Fit a detector on the faces of some images, or on whole images.

    Args:
        photographs: camera photographs, with a face if faces are to be judged.
        options: what the user asked.
        ai_generated: labelled AI-generated images, None for no binary head.
        calibration: photographs that only calibrate, None for a share of ``photographs``.
        seen: told of each image embedded.
        progress: told of the stages of the fit.

    Raises:
        DataError: nothing that is listed for one of them is there; before any is embedded.
        BladescanError: the encoder, the backend or the images are of no use.
    """
    check_settings(options.fit, binary=ai_generated is not None)
    if options.group_by not in GROUPINGS:
        raise UnknownNameError("grouping", options.group_by, GROUPINGS)
    # All of them before the first is embedded, which may take hours.
    photographs = sources_there(photographs, "photographs")
    ai_generated = None if ai_generated is None else sources_there(ai_generated, "AI-generated images")
    calibration = None if calibration is None else sources_there(calibration, "photographs to calibrate on")
    encoder = load_encoder(options.encoder, options.encoder_changes)
    made_for = {"subject": options.subject, "picture_rule": options.picture_rule}
    encoder = replace(encoder, manifest=msgspec.structs.replace(encoder.manifest, **made_for))
    options = replace(options, backend=encoder_backend(encoder, options.backend))
    features = _embedded(options, encoder, photographs, ai_generated, calibration, seen)
    detector = _fitted(options, encoder, features, progress)
    manifest = msgspec.structs.replace(
        detector.manifest,
        name=options.name,
        licence=options.licence or encoder.manifest.licence,
        face_rule=msgspec.structs.replace(encoder.manifest.face_rule, finder=features.photographic.finder),
    )
    return replace(detector, manifest=manifest)


def save_fitted(detector: Detector, path: Path) -> None:
    """Write a fitted detector as .safetensors or .onnx; over a stranger's encoder it can only be .onnx.

    Raises:
        DetectorError: tensors and manifest do not fit together, or the graph does not compute what it should.
        OutputError: the file cannot be written, or its suffix is not that of its form.
    """
    check_output(path, ".onnx" if detector.graph or path.suffix.lower() == ".onnx" else ".safetensors")
    if path.suffix.lower() == ".onnx":
        export_onnx(detector, path)
    else:
        save_detector(detector, path)


class _FitFeatures(NamedTuple):
    """Features of what a fit was given; None for what it was not."""

    photographic: Features
    calibration: Features | None
    ai_generated: Features | None


def _embedded(
    options: FitOptions,
    encoder: Detector,
    photographs: Given,
    ai_generated: Given | None,
    calibration: Given | None,
    seen: Callable[[int], None],
) -> _FitFeatures:
    decoder = options.decoder.for_detector(encoder.manifest)

    ours = SeenImages()

    def embed(
        given: Given, n_copies: int, seen_images: SeenImages, apart_from: SeenImages | None = None
    ) -> Features:
        made = made_with(options, encoder, decoder, n_copies)
        path = options.embeddings
        with nullcontext() if path is None else open_embedding_file(path, made) as known:
            return embed_images(
                sources_of(given),
                backend,
                decoder,
                group_by=options.group_by,
                n_decoders=options.n_decoders,
                n_copies=n_copies,
                seed=options.fit.seed,
                known=known,
                seen=seen_images,
                apart_from=apart_from,
                progress=seen,
            )

    with open_encoder(encoder, options.backend, options.runtime) as backend:
        return _FitFeatures(
            photographic=embed(photographs, options.n_copies, ours),
            # Nothing is learned from what calibrates: it needs no copies.
            calibration=None if calibration is None else embed(calibration, 0, ours),
            ai_generated=None
            if ai_generated is None
            else embed(ai_generated, options.n_copies, SeenImages(), ours),
        )


def made_with(
    options: FitOptions, encoder: Detector, decoder: DecoderSettings, n_copies: int
) -> dict[str, Any]:
    """Collect what decides the embeddings of a picture, but for the picture: by it a file keeps them."""
    weights = hashlib.sha256(encoder.graph)
    for name, tensor in sorted(encoder.vision.items()):
        weights.update(name.encode() + tensor.numpy().tobytes())
    return {
        "encoder": weights.hexdigest(),
        "spec": msgspec.to_builtins(encoder.manifest.encoder),
        "preprocessing": msgspec.to_builtins(encoder.manifest.preprocessing),
        "backend": options.backend,
        "precision": options.runtime.precision,
        "decoder": [decoder.faces, decoder.min_face, msgspec.to_builtins(decoder.face_rule)],
        "pictures": _viewed(decoder.picture_rule) if decoder.subject == "image" else None,
        "limits": asdict(decoder.limits) | {"formats": sorted(decoder.limits.formats)},
        "n_copies": n_copies,
        "seed": options.fit.seed if n_copies else 0,
        "bladescan": __version__,
    }


def _viewed(rule: PictureRule) -> dict[str, Any]:
    """Collect what decides the crops of a picture; how their scores are joined does not."""
    return {"view": rule.view, "tile": rule.tile, "most": rule.most}


def _fitted(options: FitOptions, encoder: Detector, features: _FitFeatures, progress: Progress) -> Detector:
    fitted, held, generated = features
    everything = fitted if held is None else _joined(fitted, held)
    parts = [fitted] if held is None else [fitted, held]
    sources = np.asarray([name for part in parts for name in _sources(part, options.fit.by)])
    faces = FitFaces(
        everything.embeddings,
        None if generated is None else generated.embeddings,
        groups=everything.groups if options.fit.by == "file" else sources,
        sources=sources,
        held_out=None if held is None else np.arange(len(everything.groups)) >= len(fitted.groups),
        pictures=everything.files if options.subject == "image" else None,
        copies=DegradedCopies(everything.copies, None if generated is None else generated.copies),
    )
    provenance = _provenance(options, features._asdict())
    return fit_detector(encoder, faces, options.fit, provenance=provenance, progress=progress)


def _sources(features: Features, by: str) -> list[str]:
    """Name where each photograph comes from: its folder, or by folders the collection that this lies in."""
    folders: list[str] = features.folders.tolist()
    return [os.path.basename(folder) for folder in folders] if by == "file" else collection_names(folders)


def _bare(manifest: Manifest) -> Manifest:
    nothing: dict[str, Any] = {"default_head": None, "combination": None, "neighbours": None, "text": None}
    return msgspec.structs.replace(manifest, heads={}, **nothing)


def _joined(fitted: Features, held: Features) -> Features:
    embeddings = np.concatenate([fitted.embeddings, held.embeddings])
    groups = np.concatenate([fitted.groups, held.groups])
    folders = np.concatenate([fitted.folders, held.folders])
    files = np.concatenate([fitted.files, held.files])
    none = np.zeros((len(held.groups), *fitted.copies.shape[1:]), np.float32)
    copies = np.concatenate([fitted.copies, none])
    return replace(fitted, embeddings=embeddings, copies=copies, groups=groups, folders=folders, files=files)


def _provenance(options: FitOptions, features: dict[str, Features | None]) -> dict[str, Any]:
    return {
        "bladescan": __version__,
        "features_by": options.backend,
        "group_by": options.group_by,
        "degraded_copies": options.n_copies,
        "images": {name: _counts(part, options) for name, part in features.items() if part is not None},
    }


def _counts(features: Features, options: FitOptions) -> dict[str, Any]:
    cut = "faces" if options.subject == "face" else "tiles"
    counts = {"images": features.n_images, cut: len(features.embeddings), "skipped": features.skipped}
    return counts | ({"notices": list(features.notices)} if features.notices else {})
