"""``bladescan calibrate``: a detector's thresholds set by one's own photographs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bladescan.base.text import printable_lines
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import (
    calibrated_detector,
    check_rate,
    raw_stdin,
    source_query,
)
from bladescan.command.terminal import ProgressLine

if TYPE_CHECKING:
    pass


_logger = logging.getLogger(__name__)


@guarded
def calibrate(
    photos: o.Photos,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Detector to write (.onnx or .safetensors)."),
    ],
    detector: Annotated[
        Path | None, typer.Argument(help="Detector to calibrate. Default: the shipped detector.")
    ] = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the new detector. Default: the file name.")
    ] = "",
    false_alarm: Annotated[
        float, typer.Option(metavar="RATE", help="False-alarm rate of the new detector.")
    ] = 0.05,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    backend: o.BackendName = "auto",
    device: o.Device = "auto",
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Set the thresholds of a detector with your own photographs; what it has learned stays.

    A rate of 5% needs twenty faces at least; a few hundred are better. See docs/calibration.md. Needs the
    extra `calibrate`.

    Example: `bladescan calibrate --photos photographs/ -o mine.onnx`
    """
    from bladescan.command.describe import as_text
    from bladescan.fitting.calibrate_job import CalibrateOptions, run_calibrate, save_calibrated
    from bladescan.processes.resources import n_cores
    from bladescan.runtimes.backend import BackendSettings
    from bladescan.scanning.decoder_process import DecoderSettings
    from bladescan.sources.listing import list_sources

    path = calibrated_detector(detector, output)
    asked = CalibrateOptions(
        detector=path,
        name=name or output.stem,
        false_alarm=check_rate(false_alarm),
        backend=backend,
        runtime=BackendSettings(device, threads=n_cores()),
        decoder=DecoderSettings(faces=faces, min_face=min_face),
        n_decoders=n_cores(),
    )
    with ProgressLine("scoring", quiet=quiet) as line:
        found = run_calibrate(asked, list_sources(source_query(photos), stdin=raw_stdin()), seen=line.advance)
    save_calibrated(path, found.manifest, output)
    print(printable_lines(as_text(found.report)))
    _logger.info(f"detector: {output}; next: bladescan scan --model {output} PATH")
