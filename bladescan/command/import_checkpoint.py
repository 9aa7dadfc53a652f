"""``bladescan import``: a checkpoint of the method's authors made an encoder run or a detector."""

from __future__ import annotations

import logging
from typing import Any

import bladescan
from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.base.extras import need_learning_side
from bladescan.command import learning_options as lo
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import counter, listed, raw_stdin
from bladescan.command.terminal import ProgressLine
from bladescan.processes.resources import n_cores

_logger = logging.getLogger(__name__)


@guarded
def import_checkpoint(
    checkpoint: lo.Checkpoint,
    output: lo.ImportCheckpointOutput,
    kind: lo.ImportAs = "checkpoint",
    photos: lo.ImportCheckpointPhotos = None,
    recipe: lo.DetectorRecipe = "",
    changes: lo.DetectorChanges = None,
    encoder: lo.HeadEncoder = "",
    name: lo.ImportCheckpointName = "",
    false_alarm: lo.ImportCheckpointFalseAlarm = 0.05,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    backend: lo.EmbeddingBackend = "auto",
    device: o.Device = "auto",
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Import a checkpoint or a detector.

    A checkpoint becomes an encoder run or a detector. With --as detector, any network in ONNX that ends in
    a logit or a probability becomes a detector, calibrated by --photos. No code in a file is run. Needs the
    extra `train`.

    Example: `bladescan import OC.pth -o runs/oc`
    """
    need_learning_side("import")
    if kind not in ("checkpoint", "detector"):
        raise UnknownNameError("kind of file", kind, ("checkpoint", "detector"))
    said = bool(recipe or changes or encoder)
    if kind == "checkpoint" and said:
        raise UsageError("--recipe, --set and --encoder are for --as detector")
    if kind == "detector" and not photos:
        raise UsageError("--as detector needs --photos: without photographs no threshold can be set")
    cores = n_cores()
    how: dict[str, Any] = {
        "name": name,
        "backend": backend,
        "runtime": bladescan.BackendSettings(device, threads=cores),
        "decoder": bladescan.DecoderSettings(faces=faces, min_face=min_face),
        "n_decoders": cores,
        "false_alarm": false_alarm,
    }
    sources = listed(photos, raw_stdin()) if photos else None
    doing = "scoring" if kind == "detector" else "embedding"
    with ProgressLine(doing, quiet=quiet, count=counter(photos)) as line:
        if kind == "detector":
            from bladescan.fitting.detector_import import DetectorImportOptions, import_detector

            asked = DetectorImportOptions(checkpoint, output, recipe, tuple(changes or ()), encoder, **how)
            imported = import_detector(asked, sources or (), seen=line.advance)
        else:
            from bladescan.fitting.import_job import ImportOptions, run_import

            imported = run_import(ImportOptions(checkpoint, output, **how), sources, seen=line.advance)
    for notice in imported.notices:
        _logger.warning("%s", notice)
    _logger.info("imported: %s", imported.path)
