"""Verdicts as JSON Lines: a JSON object on each line."""

from __future__ import annotations

from dataclasses import asdict

from bladescan.base.records import ImageRecord
from bladescan.outputs.json_values import as_json, image_fields, run_fields
from bladescan.outputs.run import RunInfo, RunSummary


class JsonLinesFormat:
    """A line for the run, one for each image, one for the summary; ``type`` says which."""

    def __init__(self, run: RunInfo, terminal: bool) -> None:
        self._run = run

    def begin(self) -> bytes:
        """Return the line of the run."""
        return as_json({"type": "run", **run_fields(self._run)}) + b"\n"

    def record(self, record: ImageRecord) -> bytes:
        """Return the line of an image."""
        return as_json({"type": "image", **image_fields(record)}) + b"\n"

    def end(self, summary: RunSummary) -> bytes:
        """Return the line of the summary."""
        return as_json({"type": "summary", **asdict(summary)}) + b"\n"
