"""Verdicts as one JSON document."""

from __future__ import annotations

from dataclasses import asdict

from bladescan.base.records import ImageRecord
from bladescan.outputs.json_values import as_json, image_fields, run_fields
from bladescan.outputs.run import RunInfo, RunSummary


class JsonFormat:
    """One document, written as it grows: cut short, it does not parse."""

    def __init__(self, run: RunInfo, terminal: bool) -> None:
        self._run = run
        self._before = b"\n"

    def begin(self) -> bytes:
        """Return the run and the opening of the list of images."""
        return b'{"run":' + as_json(run_fields(self._run)) + b',\n"images":['

    def record(self, record: ImageRecord) -> bytes:
        """Return an image, with the comma before it."""
        before, self._before = self._before, b",\n"
        return before + as_json(image_fields(record))

    def end(self, summary: RunSummary) -> bytes:
        """Return the end of the list, and the summary."""
        return b'\n],\n"summary":' + as_json(asdict(summary)) + b"}\n"
