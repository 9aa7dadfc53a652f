"""``bladescan combine``: several detectors made one, whose p-values photographs calibrate together."""

from __future__ import annotations

import logging

import bladescan
from bladescan.base.text import as_text, printable_lines
from bladescan.command import learning_options as lo
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import counter, listed, raw_stdin
from bladescan.command.terminal import ProgressLine

_logger = logging.getLogger(__name__)


@guarded
def combine(
    detectors: lo.Combined,
    photos: lo.Photos,
    output: lo.CombinedOutput,
    rule: lo.Rule = "stouffer",
    head: lo.CombinedHead = "auto",
    name: lo.Name = "",
    false_alarm: lo.CalibrateFalseAlarm = 0.05,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    device: o.Device = "auto",
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Join the p-values of several detectors.

    Photographs that all of them score set one threshold, whatever the detectors have in common. No
    AI-generated face is needed. See docs/combine.md.

    Example: `bladescan combine fast blades --photos photographs/ -o both.combined`
    """
    from bladescan.base.output_files import check_output
    from bladescan.command.describe import measured_rates
    from bladescan.processes.resources import n_cores

    cores = n_cores()
    asked = bladescan.CombineOptions(
        detectors=tuple(detectors),
        rule=rule,
        head=head,
        name=name or output.stem,
        false_alarm=false_alarm,
        runtime=bladescan.BackendSettings(device, threads=cores),
        decoder=bladescan.DecoderSettings(faces=faces, min_face=min_face),
        n_decoders=cores,
    )
    check_output(output, ".combined")
    with ProgressLine("scoring", quiet=quiet, count=counter(photos)) as line:
        found = bladescan.combine(listed(photos, raw_stdin()), asked, seen=line.advance)
    bladescan.save_combined(found.combined, found.parts, output)
    report = dict(found.report)
    for notice in report.pop("notices", ()):
        _logger.warning("%s", notice)
    print(printable_lines(as_text(report | measured_rates(found.combined.manifest))))
    _logger.info("detector: %s; next: bladescan scan --model %s PATH", output, output)
