"""One export, from what the user asked for to the file. The kinds of export stand in `kinds`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import UnknownNameError
from bladescan.detectors.manifest import Manifest
from bladescan.exporting.calibration_crops import cut_calibration_crops
from bladescan.exporting.exporter import write_export
from bladescan.exporting.kinds import EXPORTERS, ExportOptions
from bladescan.exporting.reports import EngineReport, ParityReport, QuantisationReport
from bladescan.processes.resources import n_cores
from bladescan.sources.listing import list_option

Report = ParityReport | QuantisationReport | EngineReport


def export(
    detector: str | Path | None,
    output: Path,
    options: ExportOptions = ExportOptions(),  # noqa: B008 (it is frozen)
    *,
    stdin: BinaryIO | None = None,
    seen: Callable[[int], None] = lambda n: None,
) -> Report:
    """Make a detector ready for a runtime, compare it with the detector, and write it if the two agree.

    Args:
        detector: the name of a shipped one or the path of a file (.safetensors; for ONNX in int8 also .onnx);
            None for the default.
        output: the file to write, replaced if it is there (.onnx or .engine).
        options: what is asked for.
        stdin: where ``-`` among the photographs reads names from; ``@FILE`` among them is a list.
        seen: called with the number of photographs just done.

    Returns:
        How far the two are apart.

    Raises:
        UsageError: options that do not go together, or an output that cannot be.
        DetectorError: no detector, or what was made of it does not compute the same.
        DataError: too few faces in the photographs.
        BackendError: what is needed is not installed, or failed.
        OutputError: the file cannot be written.
    """

    def cut(manifest: Manifest) -> NDArray[np.uint8]:
        sources = list_option(options.photographs, stdin=stdin)
        return cut_calibration_crops(sources, manifest, options.decoder, n_decoders=n_cores(), progress=seen)

    if options.to not in EXPORTERS:
        raise UnknownNameError("export", options.to, EXPORTERS)
    report: Report = write_export(EXPORTERS[options.to](detector, output, options, cut), output)
    return report
