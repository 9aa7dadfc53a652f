"""One import of a stranger's detector: put into a graph of ours and calibrated by the user's photographs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bladescan import __version__
from bladescan.base.errors import DataError, DetectorError, UsageError
from bladescan.base.output_files import check_output, write_file
from bladescan.base.records import CROP_SIZE
from bladescan.detectors.calibration import compress_calibration, needed_photographs, photographic_scores
from bladescan.detectors.manifest import CalibratedHead, FaceRule, Manifest, Preprocessing, counted_subjects
from bladescan.detectors.onnx_metadata import with_manifest
from bladescan.fitting.import_job import Imported
from bladescan.foreign.answer_graph import build_answer_graph
from bladescan.foreign.detector_graph import detector_graph
from bladescan.foreign.detector_layout import read_detector_layout, read_subject_layout
from bladescan.foreign.encoders import load_foreign_encoder
from bladescan.foreign.onnx_graph import read_graph
from bladescan.heads.detector import Detector
from bladescan.networks.weights import read_weights
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import choose_plugin
from bladescan.scanning.cut_faces import Faces, cut_faces, listed
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.decoders import decoder_pool
from bladescan.scanning.scoring import score_whole
from bladescan.sources.given import Given, sources_of

_BATCH = 8
_NO_CALIBRATION = CalibratedHead((0.0,), 1)
"""Stands in the file that scores the photographs, and nowhere else."""


@dataclass(frozen=True, slots=True)
class DetectorImportOptions:
    """What the user asked of the import of a stranger's detector.

    Attributes:
        file: an ONNX file, or with ``encoder`` the weights of a linear head.
        out: the detector to write (.onnx).
        recipe: name or file of what is known of it; empty for the one that lists its checksum.
        changes: ``detector.KEY=VALUE``, and with ``encoder`` ``encoder.KEY=VALUE``.
        encoder: ``onnx:FILE`` or ``torch:FILE``: the encoder that the linear head stands on.
        name: of the new detector; empty for the recipe's or the file's.
        licence: of the new detector; empty for the recipe's.
        false_alarm: its default rate.
    """

    file: Path
    out: Path
    recipe: str = ""
    changes: tuple[str, ...] = ()
    encoder: str = ""
    name: str = ""
    licence: str = ""
    backend: str = "auto"
    runtime: BackendSettings = BackendSettings()
    decoder: DecoderSettings = DecoderSettings()
    n_decoders: int = 1
    false_alarm: float = 0.05


@dataclass(frozen=True, slots=True)
class _Uncalibrated:
    """A detector that can score.

    Attributes:
        manifest: without a head.
        encode: writes it with a manifest.
    """

    manifest: Manifest
    encode: Callable[[Manifest], bytes]


def import_detector(
    options: DetectorImportOptions, photographs: Given, *, seen: Callable[[int], None] = lambda n: None
) -> Imported:
    """Turn a stranger's detector into one of ours, with a binary head calibrated by photographs.

    Args:
        options: what the user asked.
        photographs: camera photographs that the detector has not learned from.
        seen: told of each photograph looked at.

    Raises:
        DetectorError: the file is none, cannot run, or its answer is not what is said of it.
        RecipeError: something has to be said of it that nobody has.
        DataError: too few photographs for the false-alarm rate.
        OutputError: the result cannot be written.
    """
    check_output(options.out, ".onnx")
    found = _linear_head(options) if options.encoder else _answering(options)
    manifest = _calibrated(found, photographs, options, seen)
    write_file(options.out, found.encode(manifest))
    licence = manifest.licence or "none stated: ask its authors"
    return Imported(options.out, manifest, (f"{manifest.name}: licence {licence}",))


def _answering(options: DetectorImportOptions) -> _Uncalibrated:
    """Read a detector that is a whole network."""
    network = read_graph(options.file)
    layout = read_detector_layout(options.file, network.sha256, options.recipe, options.changes)
    built = build_answer_graph(network, layout)
    assert layout.subject is not None
    manifest = Manifest(
        options.name or layout.name or options.file.stem,
        built.spec,
        Preprocessing(CROP_SIZE, tuple(built.about["mean"]), tuple(built.about["std"])),
        FaceRule(finder="none") if layout.subject == "image" else FaceRule(),
        licence=options.licence or layout.licence,
        subject=layout.subject,
        picture_rule=layout.picture_rule(),
        provenance={"imported": built.about},
    )
    return _Uncalibrated(manifest, lambda manifest: with_manifest(built.model, manifest))


def _linear_head(options: DetectorImportOptions) -> _Uncalibrated:
    """Read one linear layer over an encoder, as UnivFD publishes it."""
    if options.recipe:
        raise UsageError("with --encoder the file is a linear head, of which --recipe says nothing")
    changes = [change for change in options.changes if change.startswith("encoder.")]
    seen = read_subject_layout([change for change in options.changes if not change.startswith("encoder.")])
    encoder = load_foreign_encoder(options.encoder, changes)
    weights = read_weights(options.file)
    state = _logistic(weights.tensors, encoder.manifest.encoder.embedding_dim, where=options.file.name)
    head = {"file": options.file.name, "sha256": weights.sha256}
    manifest = msgspec.structs.replace(
        encoder.manifest,
        name=options.name or options.file.stem,
        licence=options.licence or encoder.manifest.licence,
        subject=seen.subject or "face",
        picture_rule=seen.picture_rule(),
        provenance={**encoder.manifest.provenance, "imported": head},
    )
    bare = Detector(manifest, {}, None, state, encoder.graph)
    return _Uncalibrated(manifest, lambda manifest: detector_graph(replace(bare, manifest=manifest)))


def _logistic(tensors: dict[str, Tensor], d: int, *, where: str) -> dict[str, Tensor]:
    """Make a binary head of ``fc.weight`` and ``fc.bias``, whose one output is the logit of AI-generated."""
    given = {key.removeprefix("fc."): value.float() for key, value in tensors.items()}
    shapes = {key: tuple(value.shape) for key, value in given.items()}
    if shapes != {"weight": (1, d), "bias": (1,)} or not all(torch.isfinite(v).all() for v in given.values()):
        raise DetectorError(
            f"{where}: expected fc.weight [1, {d}] and fc.bias [1], for this encoder; found "
            + (", ".join(f"{key} {list(shape)}" for key, shape in sorted(shapes.items())) or "nothing")
        )
    weight = torch.cat([torch.zeros(1, d), given["weight"]])
    return {"fc2.weight": weight, "fc2.bias": torch.cat([torch.zeros(1), given["bias"]])}


def _calibrated(
    found: _Uncalibrated,
    photographs: Given,
    options: DetectorImportOptions,
    seen: Callable[[int], None],
) -> Manifest:
    """Score photographs and make their scores the calibration."""
    decoder = options.decoder.for_detector(found.manifest)
    with decoder_pool(options.n_decoders, decoder) as pool:
        finder = pool.start().finder
        faces = cut_faces(sources_of(photographs), pool, progress=seen)
    n, needed = len(faces.counts), needed_photographs(options.false_alarm)
    if n < needed:
        raise DataError(
            f"{counted_subjects(found.manifest, n)} to calibrate on "
            f"({listed(faces.skipped, 'no other image')}), but a false-alarm rate of "
            f"{options.false_alarm:g} needs at least {needed}: give more photographs"
        )
    scores = _scores(found, faces, options)
    head = CalibratedHead(compress_calibration(scores), n, {"fitted_by": "its authors"})
    counts: dict[str, Any] = {"images": len(faces.names), "faces": n, "skipped": faces.skipped}
    return msgspec.structs.replace(
        found.manifest,
        heads={"binary": head},
        default_head="binary",
        default_false_alarm=options.false_alarm,
        face_rule=msgspec.structs.replace(found.manifest.face_rule, finder=finder),
        provenance={**found.manifest.provenance, "calibration": counts, "bladescan": __version__},
    )


def _scores(found: _Uncalibrated, faces: Faces, options: DetectorImportOptions) -> NDArray[np.float64]:
    """Score the crops in the backend that will scan, from a temporary file."""
    manifest = msgspec.structs.replace(
        found.manifest, heads={"binary": _NO_CALIBRATION}, default_head="binary"
    )
    with tempfile.TemporaryDirectory(prefix="bladescan-") as folder:
        path = Path(folder) / "detector.onnx"
        path.write_bytes(found.encode(manifest))
        backend = choose_plugin(options.backend, path).open(path, options.runtime)
        try:
            scores = score_whole(backend, faces.crops, faces.counts.tolist(), _BATCH)
        finally:
            backend.close()
    assert scores is not None
    return photographic_scores(scores, "binary")
