"""``bladescan evaluate``: how good a detector is, as a report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bladescan.base.text import printable_lines
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import (
    check_new_folder,
    named_folders,
    need_learning_side,
    raw_stdin,
    source_query,
)
from bladescan.command.terminal import ProgressLine

if TYPE_CHECKING:
    pass


_logger = logging.getLogger(__name__)


@guarded
def evaluate(
    photos: o.Photos,
    ai_generated: o.Generators,
    output: o.ReportOutput,
    detector: Annotated[
        Path | None,
        typer.Argument(help="Detector file (.onnx or .safetensors). Default: the shipped detector."),
    ] = None,
    match: o.Matched = False,
    false_alarm: o.FalseAlarm = None,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    backend: o.BackendName = "auto",
    device: o.Device = "auto",
    seed: o.Seed = 0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Measure a detector on photographs and on the images of each generator. Needs the extra `train`.

    Prints the main table, and writes report.md, report.json and plots into the folder.

    Example: `bladescan evaluate --photos photographs/ --ai-generated sdxl=images/sdxl --match -o report`
    """
    need_learning_side("evaluate")
    folders, stdin = named_folders(ai_generated, "--ai-generated"), raw_stdin()
    check_new_folder(output)
    from bladescan.evaluation.job import EvaluateOptions, run_evaluation, write_evaluation
    from bladescan.evaluation.markdown_report import summary
    from bladescan.processes.resources import n_cores
    from bladescan.runtimes.backend import BackendSettings
    from bladescan.scanning.decoder_process import DecoderSettings
    from bladescan.sources.listing import list_sources

    asked = EvaluateOptions(
        detector=detector,
        backend=backend,
        runtime=BackendSettings(device, threads=n_cores()),
        decoder=DecoderSettings(faces=faces, min_face=min_face),
        false_alarm=false_alarm,
        match=match,
        n_decoders=n_cores(),
        seed=seed,
    )
    photographs = list_sources(source_query(photos), stdin=stdin)
    sets = {name: list_sources(source_query(paths), stdin=stdin) for name, paths in folders.items()}
    with ProgressLine("finding faces", quiet=quiet) as line:
        found = run_evaluation(
            asked,
            photographs,
            sets,
            seen=line.advance,
            progress=line.set,
        )
    write_evaluation(found, output, seed=seed)
    print(printable_lines(summary(found.report)))
    for warning in () if quiet else found.report.warnings:
        _logger.warning("%s", warning)
    _logger.info(f"report: {output / 'report.md'}")
