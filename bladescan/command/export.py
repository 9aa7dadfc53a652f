"""``bladescan export``: a detector made ready for a runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bladescan.base.text import printable_lines
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import (
    check_output,
    need_learning_side,
    raw_stdin,
    source_query,
)
from bladescan.command.terminal import ProgressLine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bladescan.detectors.manifest import FaceRule


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
    from bladescan.base.errors import UnknownNameError, UsageError
    from bladescan.base.text import as_text
    from bladescan.detectors.shipped import ONNX, SAFETENSORS

    if detector is None:
        detector = ONNX if to == "onnx" and photos else SAFETENSORS
    if to == "tensorrt":
        with ProgressLine("cutting faces out", quiet=quiet) as line:
            built = _export_engine(
                detector, output, precision, max_batch, photos, (faces, min_face), line.advance
            )
        print(printable_lines(as_text({"export": str(output), "bytes": output.stat().st_size, **built})))
        return
    if to != "onnx":
        raise UnknownNameError("export", to, ["onnx", "tensorrt"])
    precision = "fp32" if precision == "auto" else precision
    if precision == "fp16":
        raise UsageError("--precision fp16 is for --to tensorrt; ONNX is exported in fp32 or int8")
    if precision not in ("fp32", "int8"):
        raise UnknownNameError("precision", precision, ["fp32", "int8"])
    if (precision == "int8") != bool(photos):
        raise UsageError("--precision int8 and --photos go together: int8 is calibrated on photographs")
    check_output(output, ".onnx")
    if output.resolve() == detector.resolve():
        raise UsageError(f"--output {output}: is the detector that is exported; give it another name")
    if photos:
        from bladescan.exporting.int8 import export_int8
        from bladescan.processes.resources import n_cores
        from bladescan.scanning.decoder_process import DecoderSettings
        from bladescan.sources.listing import list_sources

        sources, decoder = (
            list_sources(source_query(photos), stdin=raw_stdin()),
            DecoderSettings(faces, min_face),
        )
        with ProgressLine("cutting faces out", quiet=quiet) as line:
            told = export_int8(detector, output, sources, decoder, n_decoders=n_cores(), seen=line.advance)
    else:
        told = {"largest difference": _export_onnx(detector, output)}
    print(as_text({"export": str(output), "bytes": output.stat().st_size, **told}))


def _export_engine(
    detector: Path,
    output: Path,
    precision: str,
    max_batch: int,
    photos: list[str] | None,
    finder: tuple[str, int],
    seen: Callable[[int], None],
) -> dict[str, Any]:
    from dataclasses import asdict

    from bladescan.processes.resources import n_cores
    from bladescan.runtimes.engine_file import SUFFIX
    from bladescan.scanning.decoder_process import DecoderSettings
    from bladescan.sources.listing import list_sources

    check_output(output, SUFFIX)
    need_learning_side("export")
    from bladescan.exporting.int8 import cut_faces
    from bladescan.exporting.tensorrt import export_tensorrt

    def crops(rule: FaceRule) -> NDArray[np.uint8]:
        sources = list_sources(source_query(photos or []), stdin=raw_stdin())
        return cut_faces(sources, rule, DecoderSettings(*finder), n_decoders=n_cores(), seen=seen)

    report = export_tensorrt(
        detector,
        output,
        precision="fp16" if precision == "auto" else precision,
        max_batch=max_batch,
        crops=crops if photos else None,
        photos=photos or (),
    )
    return asdict(report)


def _export_onnx(detector: Path, output: Path) -> dict[str, Any]:
    need_learning_side("export")
    from dataclasses import asdict

    from bladescan.exporting.onnx import export_onnx
    from bladescan.heads.detector import load_detector

    return asdict(export_onnx(load_detector(detector), output))
