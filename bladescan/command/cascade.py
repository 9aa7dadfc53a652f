"""``bladescan cascade``: a fast and an accurate detector made one, with thresholds by one's photographs."""

from __future__ import annotations

import logging

import bladescan
from bladescan.base.text import as_text, printable_lines
from bladescan.command import learning_options as lo
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import listed, raw_stdin
from bladescan.command.terminal import ProgressLine

_logger = logging.getLogger(__name__)


@guarded
def cascade(
    first: lo.First,
    second: lo.Second,
    photos: lo.Photos,
    output: lo.CascadeOutput,
    clear: lo.Clear = 0.8,
    weight: lo.Weight = 0.5,
    name: lo.Name = "",
    false_alarm: lo.CalibrateFalseAlarm = 0.05,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    device: o.Device = "auto",
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Join a fast and an accurate detector.

    The second looks only at faces that the first does not clear. Photographs set what is cleared, and one
    threshold for both. See docs/choosing.md.

    Example: `bladescan cascade fast accurate --photos photographs/ -o mine.cascade`
    """
    from bladescan.base.output_files import check_output
    from bladescan.processes.resources import n_cores

    cores = n_cores()
    asked = bladescan.CascadeOptions(
        first=first,
        second=second,
        name=name or output.stem,
        clear=clear,
        weight=weight,
        false_alarm=false_alarm,
        runtime=bladescan.BackendSettings(device, threads=cores),
        decoder=bladescan.DecoderSettings(faces=faces, min_face=min_face),
        n_decoders=cores,
    )
    check_output(output, ".cascade")
    with ProgressLine("scoring", quiet=quiet) as line:
        found = bladescan.make_cascade(listed(photos, raw_stdin()), asked, seen=line.advance)
    bladescan.save_cascade(found.cascade, found.parts, output)
    report = dict(found.report)
    for notice in report.pop("notices", ()):
        _logger.warning("%s", notice)
    print(printable_lines(as_text(report)))
    _logger.info("detector: %s; next: bladescan scan --model %s PATH", output, output)
