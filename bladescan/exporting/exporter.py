"""The steps that every kind of export takes: build, check, write. It exports nothing itself."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeVar

from bladescan.base.output_files import write_file

Built = TypeVar("Built")
Report = TypeVar("Report")


class Exporter(Protocol[Built, Report]):
    """One detector on its way to one kind of file."""

    def build(self) -> Built:
        """Make what is to be written, of the detector.

        Raises:
            BladescanError: it cannot be made.
        """

    def check(self, built: Built) -> Report:
        """Compare it with the detector.

        Raises:
            DetectorError: it does not compute what the detector does.
        """

    def encode(self, built: Built, report: Report) -> bytes:
        """Put it into the bytes of a file."""


def write_export(exporter: Exporter[Built, Report], output: Path) -> Report:
    """Build, check and write; a failure leaves nothing at the output, and what was there before.

    Raises:
        BladescanError: of any step.
        OutputError: the file cannot be written.
    """
    built = exporter.build()
    report = exporter.check(built)
    write_file(output, exporter.encode(built, report))
    return report
