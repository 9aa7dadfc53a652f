"""``bladescan export``: a detector made ready for a runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bladescan.base.text import printable_lines
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import raw_stdin
from bladescan.command.terminal import ProgressLine


@guarded
def export(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Exported detector to write (.onnx or .engine)."),
    ],
    detector: Annotated[
        Path | None,
        typer.Argument(
            help="Detector to export (.safetensors; for ONNX in int8 also .onnx). Default: the shipped one."
        ),
    ] = None,
    to: Annotated[str, typer.Option(metavar="onnx|tensorrt", help="Runtime to export for.")] = "onnx",
    precision: Annotated[
        str,
        typer.Option(
            metavar="fp32|fp16|int8",
            help="fp32, fp16 (tensorrt only), int8 (needs --photos), or auto: fp16 for tensorrt, else fp32.",
        ),
    ] = "auto",
    photos: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="Photographs that set the ranges of int8, and show what it changes. Repeatable.",
        ),
    ] = None,
    max_batch: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=4096, help="Most faces that a TensorRT engine scores at once."),
    ] = 64,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Export a detector to an ONNX graph or a TensorRT engine.

    The export is compared with the detector, and written only if the two agree. Needs the extra `train`;
    for int8 from an .onnx detector the package `onnx` is enough.

    Example: `bladescan export mine.safetensors -o mine.onnx`
    """
    from dataclasses import asdict

    from bladescan.base.text import as_text
    from bladescan.exporting import job
    from bladescan.exporting.reports import ParityReport
    from bladescan.scanning.decoder_process import DecoderSettings

    decoder = DecoderSettings(faces, min_face)
    options = job.ExportOptions(to, precision, tuple(photos or ()), max_batch, decoder)
    with ProgressLine("cutting faces out", quiet=quiet) as line:
        report = job.export(detector, output, options, stdin=raw_stdin(), seen=line.advance)
    told = {"largest difference": asdict(report)} if isinstance(report, ParityReport) else asdict(report)
    print(printable_lines(as_text({"export": str(output), "bytes": output.stat().st_size, **told})))
