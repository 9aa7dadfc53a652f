"""``bladescan fit``: photographs to a calibrated detector."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import bladescan
from bladescan.base.extras import need_learning_side
from bladescan.base.output_files import check_output
from bladescan.base.text import as_text, printable_lines
from bladescan.command import learning_options as lo
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import counter, listed, picture_rule, raw_stdin
from bladescan.command.terminal import ProgressLine
from bladescan.processes.resources import n_cores

_logger = logging.getLogger(__name__)


@guarded
def fit(
    photos: lo.Photos,
    output: lo.FittedOutput,
    ai_generated: lo.AiGenerated = None,
    calibrate: lo.Calibrate = None,
    encoder: lo.EncoderPath = "default",
    changes: lo.EncoderChanges = None,
    name: lo.Name = "",
    licence: lo.Licence = "",
    covariance: lo.Covariance = "auto",
    components: lo.Components = 10,
    held_out: lo.HeldOut = 0.3,
    false_alarm: lo.FitFalseAlarm = 0.05,
    group_by: lo.GroupBy = "file",
    by: lo.By = "file",
    copies: lo.Copies = 2,
    pseudo_outliers: lo.PseudoOutliers = 0,
    binary_head: lo.BinaryHead = "auto",
    combine: lo.FitCombine = None,
    embeddings: lo.Embeddings = None,
    subject: lo.FitSubject = "face",
    view: lo.ViewChoice = "tiles",
    tile: lo.TileSide = 224,
    tiles: lo.MostTiles = 9,
    join: lo.JoinChoice = "mean",
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    backend: lo.EmbeddingBackend = "auto",
    device: o.Device = "auto",
    seed: lo.Seed = 0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Fit a detector on your own photographs.

    A Gaussian mixture learns your photographs (one-class head). Photographs kept out of it set the
    thresholds.

    With --ai-generated, a binary head learns both classes as well. With --subject image the detector judges
    whole pictures. Needs the extra `train`.

    Example: `bladescan fit --photos photographs/ --ai-generated generated/ -o mine.safetensors`
    """
    need_learning_side("fit")
    rule = picture_rule(subject, view, tile, tiles, join)
    cores = n_cores()
    asked = bladescan.FitOptions(
        encoder=encoder,
        encoder_changes=tuple(changes or ()),
        name=name or output.stem,
        licence=licence,
        backend=backend,
        group_by=group_by,
        n_copies=copies,
        embeddings=embeddings,
        runtime=bladescan.BackendSettings(device, threads=cores),
        decoder=bladescan.DecoderSettings(faces=faces, min_face=min_face),
        fit=bladescan.FitSettings(
            covariance,
            components,
            held_out=held_out,
            false_alarm=false_alarm,
            n_outliers=pseudo_outliers,
            seed=seed,
            binary_head=binary_head,
            combine=combine,
            by=by,
        ),
        n_decoders=cores,
        subject=subject,
        picture_rule=rule,
    )
    foreign = encoder.startswith(("onnx:", "torch:"))
    check_output(output, ".onnx" if foreign or output.suffix.lower() == ".onnx" else ".safetensors")
    stdin = raw_stdin()
    with ProgressLine("embedding", quiet=quiet, count=counter(photos, ai_generated, calibrate)) as line:
        detector = bladescan.fit(
            listed(photos, stdin),
            asked,
            ai_generated=listed(ai_generated, stdin) if ai_generated else None,
            calibration=listed(calibrate, stdin) if calibrate else None,
            seen=line.advance,
            progress=line.set,
        )
    bladescan.save_fitted(detector, output)
    _print_fit(detector.manifest.provenance, output)


def _print_fit(provenance: dict[str, Any], output: Path) -> None:

    report = dict(provenance["fit"])
    images = {name: dict(counts) for name, counts in provenance["images"].items()}
    notices = [line for part in images.values() for line in part.pop("notices", ())]
    for notice in [*report.pop("notices", ()), *notices]:
        _logger.warning("%s", notice)
    print(printable_lines(as_text({"images": images, **report})))
    exported = output.with_suffix(".onnx")
    next_step = f"bladescan export {output} --to onnx -o {exported}"
    if output.suffix.lower() == ".onnx":
        next_step = f"bladescan scan --model {output} PATH"
    _logger.info("detector: %s; next: %s", output, next_step)
