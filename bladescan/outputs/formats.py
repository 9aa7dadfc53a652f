"""The table of output formats. It opens no output.

To add one: a module with a class like `OutputFormat`, a line in `OUTPUT_FORMATS`, the help of ``--format``,
and ``docs/output.md``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple, Protocol

from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.base.output_files import is_special
from bladescan.base.records import ImageRecord
from bladescan.outputs.csv_format import CsvFormat
from bladescan.outputs.json_format import JsonFormat
from bladescan.outputs.json_lines_format import JsonLinesFormat
from bladescan.outputs.parquet_format import ParquetFormat
from bladescan.outputs.run import RunInfo, RunSummary
from bladescan.outputs.table_format import TableFormat


class OutputFormat(Protocol):
    """Turns the run, each record and the summary into bytes. It knows nothing of where the bytes go.

    It holds back no more records than a row group, so that bytes already returned can be made durable piece
    by piece.
    """

    def begin(self) -> bytes:
        """Return what stands before the first record."""

    def record(self, record: ImageRecord) -> bytes:
        """Return one record; empty where records are held back."""

    def end(self, summary: RunSummary) -> bytes:
        """Return what stands after the last record."""


class KnownFormat(NamedTuple):
    """One line of the table of output formats.

    Attributes:
        make: make it, with the run and whether it is written to a terminal.
        suffixes: of the output files that are written in it unless the user says otherwise.
    """

    make: Callable[[RunInfo, bool], OutputFormat]
    suffixes: tuple[str, ...] = ()


OUTPUT_FORMATS = {
    "csv": KnownFormat(CsvFormat, (".csv",)),
    "json": KnownFormat(JsonFormat, (".json",)),
    "jsonl": KnownFormat(JsonLinesFormat, (".jsonl", ".ndjson")),
    "parquet": KnownFormat(ParquetFormat, (".parquet",)),
    "table": KnownFormat(TableFormat),
}
"""By the values of ``--format``."""

SUFFIXES = {suffix: name for name, known in OUTPUT_FORMATS.items() for suffix in known.suffixes}
"""The formats by the suffix of the output file."""


def choose_format(path: str | None, format: str, terminal: bool) -> str:
    """Decide on a format.

    Args:
        path: the file to write, None for standard output.
        format: a key of `OUTPUT_FORMATS`, or ``auto``: by the suffix, else a table on a terminal, else CSV.
        terminal: whether standard output is a terminal.

    Returns:
        A key of `OUTPUT_FORMATS`.

    Raises:
        UnknownNameError: unknown format.
        UsageError: unknown suffix, or Parquet on a terminal.
    """
    if format != "auto":
        if format not in OUTPUT_FORMATS:
            raise UnknownNameError("format", format, [*OUTPUT_FORMATS, "auto"])
        if format == "parquet" and terminal:
            raise UsageError("Parquet cannot be shown on a terminal: give -o FILE.parquet")
        return format
    if path is None:
        return "table" if terminal else "csv"
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if is_special(path):  # a pipe or a device has no suffix to go by
        return "csv"
    raise UsageError(f"{path}: no format has the suffix {suffix!r}: use {', '.join(SUFFIXES)}, or --format")
