"""The page of ``bladescan scan --report``: rows are kept as they come, whatever the output's format."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import bladescan
from bladescan.base.records import ImageRecord
from bladescan.command.report import calibration_of, check_page, say_written
from bladescan.command.terminal import ProgressLine
from bladescan.detectors.manifest import Manifest
from bladescan.outputs.json_lines_format import JsonLinesFormat
from bladescan.outputs.run import RunInfo, RunSummary
from bladescan.processes.resources import n_cores
from bladescan.runtimes.registry import find_detector
from bladescan.runtimes.several import manifest_of_several
from bladescan.scanning.listener import Listener
from bladescan.scanning.tally import Tally


class ScanReport(Listener):
    """Keeps the rows of a scan, then makes the page of them. Use it as a context: its file goes with it.

    Args:
        page: as ``bladescan report`` takes it.
        options: of the scan.
        output: where the verdicts go, which the page is called after.

    Raises:
        BladescanError: the page cannot be written, or the detector cannot be had.
    """

    def __init__(self, page: Path, options: bladescan.ScanOptions, output: str | None) -> None:
        check_page(page)
        self._page, self._manifest = page, _calibration(options)
        name = "a scan" if output in (None, "-") else os.path.basename(str(output))
        self._title = f"Review of {name}"
        self._folder = tempfile.TemporaryDirectory(prefix="bladescan-")
        self._rows = Path(self._folder.name) / "verdicts.jsonl"
        self._file = open(self._rows, "wb")

    def began(self, run: RunInfo, tally: Tally) -> None:
        """Keep what made the verdicts."""
        self._format = JsonLinesFormat(run, False)
        self._file.write(self._format.begin())

    def seen(self, record: ImageRecord) -> None:
        """Keep a row."""
        self._file.write(self._format.record(record))

    def ended(self, summary: RunSummary, scanned_by: str) -> None:
        """Keep the summary: all rows are there."""
        self._file.write(self._format.end(summary))

    def closed(self, summary: RunSummary, run: RunInfo | None) -> None:
        """Close the file of rows."""
        self._file.close()

    def write(self, options: bladescan.ScanOptions, *, ledger: str | None, quiet: bool) -> None:
        """Make the page of what was kept, without what the ledger knows to be decided.

        Raises:
            BladescanError: as `bladescan.reviewing.review.write_review`.
        """
        asked = bladescan.ReviewOptions(
            output=self._page,
            manifest=self._manifest,
            title=self._title,
            limits=options.decoder.limits,
            timeout_s=options.decoder.timeout_s,
            n_processes=n_cores(),
            ledger=ledger,
        )
        with ProgressLine("looking again", quiet=quiet) as line:
            found = bladescan.write_review(self._rows, asked, seen=line.advance)
        say_written(found)

    def __enter__(self) -> ScanReport:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        self._folder.cleanup()


def _calibration(options: bladescan.ScanOptions) -> Manifest:
    """Read what the detector of a scan says of itself, several as one."""
    names = [None if model is None else str(model) for model in options.chosen_models().main]
    if options.combine is None:
        return calibration_of(names[0])
    named = [(find_detector(name, options.backend).stem, calibration_of(name)) for name in names]
    return manifest_of_several(named, options.combine, options.decision.head)
