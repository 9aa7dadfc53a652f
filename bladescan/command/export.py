"""``bladescan export``: a detector made ready for a runtime."""

from __future__ import annotations

from bladescan.base.text import printable_lines
from bladescan.command import learning_options as lo
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import counter, raw_stdin
from bladescan.command.terminal import ProgressLine


@guarded
def export(
    output: lo.ExportOutput,
    detector: lo.ExportDetector = None,
    to: lo.To = "onnx",
    precision: lo.ExportPrecision = "auto",
    photos: lo.ExportPhotos = None,
    max_batch: lo.MaxBatch = 64,
    builder: lo.Builder = "auto",
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Export a detector to ONNX or TensorRT.

    The export is compared with the detector, and written only if the two agree. Needs the extra `train`;
    for int8 from an .onnx detector the package `onnx` is enough.

    Example: `bladescan export mine.safetensors -o mine.onnx`
    """
    from dataclasses import asdict

    from bladescan.base.text import as_text
    from bladescan.exporting import job
    from bladescan.exporting.kinds import ExportOptions
    from bladescan.exporting.reports import ParityReport
    from bladescan.scanning.decoder_process import DecoderSettings

    decoder = DecoderSettings(faces, min_face)
    options = ExportOptions(to, precision, tuple(photos or ()), max_batch, builder, decoder)
    with ProgressLine("cutting faces out", quiet=quiet, count=counter(photos)) as line:
        report = job.export(detector, output, options, stdin=raw_stdin(), seen=line.advance)
    told = {"largest difference": asdict(report)} if isinstance(report, ParityReport) else asdict(report)
    print(printable_lines(as_text({"export": str(output), "bytes": output.stat().st_size, **told})))
