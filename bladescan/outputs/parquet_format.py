"""Verdicts as a Parquet file. pyarrow is imported when one is opened."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

from bladescan.base.errors import import_failed
from bladescan.base.records import ImageRecord
from bladescan.outputs.json_values import as_json, run_fields
from bladescan.outputs.rows import TEXT_COLUMNS, columns, rows
from bladescan.outputs.run import RunInfo, RunSummary

ROW_GROUP = 8192
"""Rows that are held back until they make a row group."""


class ParquetFormat:
    """The rows of the CSV with types, in row groups; run and summary are in the file's metadata.

    Raises:
        MissingDependencyError: pyarrow is not installed.
    """

    def __init__(self, run: RunInfo, terminal: bool) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as exc:
            raise import_failed(exc, "parquet", "pyarrow", "pip install 'bladescan[parquet]'") from exc
        types = {
            **dict.fromkeys(columns(run), pyarrow.float64()),
            **dict.fromkeys(
                ("width", "height", "n_frames", "face", "frame", "rotation", "tiles"), pyarrow.int32()
            ),
            **dict.fromkeys(TEXT_COLUMNS, pyarrow.string()),
            "path_bytes": pyarrow.binary(),
        }
        self._components = run.components
        self._table = pyarrow.Table
        self._schema = pyarrow.schema(types, metadata={"bladescan.run": as_json(run_fields(run))})
        self._buffer = io.BytesIO()
        self._file = _GrowingFile(self._buffer)
        self._writer = pyarrow.parquet.ParquetWriter(self._file, self._schema)
        self._held: list[dict[str, Any]] = []

    def begin(self) -> bytes:
        """Return the head of the file."""
        return self._drained()

    def record(self, record: ImageRecord) -> bytes:
        """Hold an image back, and return a row group when there are enough rows for one."""
        self._held += rows(record, self._components)
        if len(self._held) >= ROW_GROUP:
            self._write_group()
        return self._drained()

    def end(self, summary: RunSummary) -> bytes:
        """Return the last row group and the metadata."""
        if self._held:
            self._write_group()
        self._writer.add_key_value_metadata({"bladescan.summary": as_json(asdict(summary)).decode()})
        self._writer.close()
        return self._drained()

    def _write_group(self) -> None:
        self._writer.write_table(self._table.from_pylist(self._held, schema=self._schema))
        self._held = []

    def _drained(self) -> bytes:
        data = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return data


class _GrowingFile(io.RawIOBase):
    """A file that is only appended to, and knows its length though its buffer is emptied now and then."""

    def __init__(self, buffer: io.BytesIO) -> None:
        self._buffer, self._length = buffer, 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._length

    def write(self, data: Any) -> int:
        self._length += len(data)
        return self._buffer.write(data)
