"""``bladescan import``: a checkpoint of the method's authors made an encoder run or a detector."""

from __future__ import annotations

import logging

import bladescan
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
    photos: lo.ImportCheckpointPhotos = None,
    name: lo.ImportCheckpointName = "",
    false_alarm: lo.ImportCheckpointFalseAlarm = 0.05,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    backend: lo.EmbeddingBackend = "auto",
    device: o.Device = "auto",
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Import a checkpoint of the method's authors.

    It becomes an encoder run or a detector. Every tensor is checked, and no code in the file is run. Needs
    the extra `train`.

    Example: `bladescan import OC.pth -o runs/oc`
    """
    need_learning_side("import")
    from bladescan.fitting.import_job import ImportOptions, run_import

    cores = n_cores()
    asked = ImportOptions(
        checkpoint=checkpoint,
        out=output,
        name=name,
        backend=backend,
        runtime=bladescan.BackendSettings(device, threads=cores),
        decoder=bladescan.DecoderSettings(faces=faces, min_face=min_face),
        n_decoders=cores,
        false_alarm=false_alarm,
    )
    with ProgressLine("embedding", quiet=quiet, count=counter(photos)) as line:
        imported = run_import(asked, listed(photos, raw_stdin()) if photos else None, seen=line.advance)
    for notice in imported.notices:
        _logger.warning("%s", notice)
    _logger.info("imported: %s", imported.path)
