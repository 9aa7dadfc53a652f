"""``bladescan evaluate``: how good a detector is, as a report."""

from __future__ import annotations

import logging

import bladescan
from bladescan.base.extras import need_learning_side
from bladescan.base.text import printable_lines
from bladescan.command import learning_options as lo
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import check_new_folder, counter, listed, named_folders, raw_stdin
from bladescan.command.terminal import ProgressLine
from bladescan.processes.resources import n_cores

_logger = logging.getLogger(__name__)


@guarded
def evaluate(
    photos: lo.Photos,
    ai_generated: lo.Generators,
    output: lo.ReportOutput,
    detector: lo.EvaluateDetector = None,
    match: lo.Matched = False,
    false_alarm: o.FalseAlarm = None,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    backend: o.BackendName = "auto",
    device: o.Device = "auto",
    seed: lo.Seed = 0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Measure a detector on sorted images.

    Compares photographs with the images of each generator. Prints the main table, and writes report.html,
    report.md, report.json and plots into the folder. Needs the extra `train`.

    Example: `bladescan evaluate --photos photographs/ --ai-generated sdxl=images/sdxl --match -o report`
    """
    need_learning_side("evaluate")
    folders, stdin = named_folders(ai_generated, "--ai-generated"), raw_stdin()
    check_new_folder(output)

    from bladescan.evaluation.markdown_report import summary

    cores = n_cores()
    asked = bladescan.EvaluateOptions(
        detector=detector,
        backend=backend,
        runtime=bladescan.BackendSettings(device, threads=cores),
        decoder=bladescan.DecoderSettings(faces=faces, min_face=min_face),
        false_alarm=false_alarm,
        match=match,
        n_decoders=cores,
        seed=seed,
    )
    sets = {name: listed(paths, stdin) for name, paths in folders.items()}
    with ProgressLine("finding faces", quiet=quiet, count=counter(photos, *folders.values())) as line:
        found = bladescan.evaluate(listed(photos, stdin), sets, asked, seen=line.advance, progress=line.set)
    bladescan.save_evaluation(found, output, seed=seed)
    print(printable_lines(summary(found.report)))
    for warning in found.report.warnings:
        _logger.warning("%s", warning)
    _logger.info("report: %s", output / "report.html")
