"""``bladescan calibrate``: a detector's thresholds set by one's own photographs."""

from __future__ import annotations

import logging

import bladescan
from bladescan.base.text import as_text, printable_lines
from bladescan.command import learning_options as lo
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import (
    calibrated_detector,
    check_rate,
    counter,
    listed,
    raw_stdin,
)
from bladescan.command.terminal import ProgressLine
from bladescan.processes.resources import n_cores

_logger = logging.getLogger(__name__)


@guarded
def calibrate(
    photos: lo.Photos,
    output: lo.CalibrateOutput,
    detector: lo.Detector = None,
    name: lo.Name = "",
    false_alarm: lo.CalibrateFalseAlarm = 0.05,
    by: lo.By = "file",
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    backend: o.BackendName = "auto",
    device: o.Device = "auto",
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Set thresholds with your own photographs.

    What the detector has learned stays. A rate of 5% needs 19 faces at least; a few hundred are better.
    See docs/calibration.md.

    Example: `bladescan calibrate --photos photographs/ -o mine.onnx`
    """
    from bladescan.command.describe import measured_rates

    cores = n_cores()
    asked = bladescan.CalibrateOptions(
        detector=calibrated_detector(detector, output),
        name=name or output.stem,
        false_alarm=check_rate(false_alarm),
        by=by,
        backend=backend,
        runtime=bladescan.BackendSettings(device, threads=cores),
        decoder=bladescan.DecoderSettings(faces=faces, min_face=min_face),
        n_decoders=cores,
    )
    with ProgressLine("scoring", quiet=quiet, count=counter(photos)) as line:
        found = bladescan.calibrate(listed(photos, raw_stdin()), asked, seen=line.advance)
    bladescan.save_calibrated(found, output)
    report = dict(found.report)
    for notice in report.pop("notices", ()):
        _logger.warning("%s", notice)
    print(printable_lines(as_text(report | measured_rates(found.manifest))))
    _logger.info("detector: %s; next: bladescan scan --model %s PATH", output, output)
