"""Verdicts as CSV: one line for each face."""

from __future__ import annotations

import base64
import csv
import io
import re
from typing import Any

from bladescan.base.records import ImageRecord
from bladescan.outputs.rows import columns, rows
from bladescan.outputs.run import RunInfo, RunSummary

# The last four are the full-width forms, which spreadsheets in some locales take for the same.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_TERMINATOR = ";\t\r\n"
_AFTER_A_CELL = re.compile(
    f"(?<=[{_TERMINATOR}|])(?=[{re.escape(''.join(FORMULA_STARTS[:4] + FORMULA_STARTS[7:]))}])"
)
"""Where a cell would begin in a spreadsheet whose cells end with a semicolon (half of Europe) or a tab."""
_BASE64_PLUS = (b"\xf8", b"\xf9", b"\xfa", b"\xfb")
"""First bytes of names whose Base64 begins with a plus."""


class CsvFormat:
    """RFC 4180 quoting, UTF-8, lines that end with LF: in a pipe a CR would stick to the last field."""

    def __init__(self, run: RunInfo, terminal: bool) -> None:
        self._columns, self._components = columns(run), run.components

    def begin(self) -> bytes:
        """Return the line of column names."""
        return _csv_line(self._columns)

    def record(self, record: ImageRecord) -> bytes:
        """Return a line for each face, or one for an image without a face."""
        return b"".join(
            _csv_line([_cell(*item) for item in row.items()]) for row in rows(record, self._components)
        )

    def end(self, summary: RunSummary) -> bytes:
        """Return nothing: a CSV file has no place for a summary."""
        return b""


def _csv_line(cells: Any) -> bytes:
    text = io.StringIO(newline="")
    # What stands in the terminator is quoted: a lone CR as well as a lone LF, and what else ends a cell.
    csv.writer(text, lineterminator=_TERMINATOR).writerow(cells)
    return (text.getvalue().removesuffix(_TERMINATOR) + "\n").encode()


def _cell(column: str, value: str | bytes | int | float | None) -> str | int | float | None:
    """Make text that a spreadsheet would run harmless; a path stays a name of the same file."""
    if isinstance(value, bytes):
        return base64.b64encode(value if value[:1] not in _BASE64_PLUS else b"./" + value).decode()
    if not isinstance(value, str):
        return value
    if column == "path":  # the first cell of its line, so that its quotes count wherever cells end
        return f"./{value}" if value.startswith(FORMULA_STARTS) else value
    value = _AFTER_A_CELL.sub("'", value)
    return f"'{value}" if value.startswith(FORMULA_STARTS) else value
