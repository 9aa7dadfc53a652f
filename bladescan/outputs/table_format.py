"""Verdicts as a table for people to read on a terminal."""

from __future__ import annotations

import os
from math import inf

from bladescan.base.provenance_record import Provenance
from bladescan.base.records import ImageRecord, Verdict
from bladescan.base.text import printable
from bladescan.outputs.rows import rows
from bladescan.outputs.run import RunInfo, RunSummary


def _statement(provenance: Provenance | None) -> str:
    """Say in brackets what a file says of itself."""
    if provenance is None or provenance.declared == "none":
        return ""
    by = ", ".join(filter(None, (provenance.declared_by, provenance.declared_tool)))
    return f"  (declared {provenance.declared}: {by})"


class TableFormat:
    """A line for each image, for people: its most suspicious face decides what is shown."""

    _COLOURS = {Verdict.AI_GENERATED: "bold red", Verdict.UNREADABLE: "yellow", Verdict.NOT_FLAGGED: "green"}

    def __init__(self, run: RunInfo, terminal: bool) -> None:
        self._colour = terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"

    def begin(self) -> bytes:
        """Return the line of headings."""
        return b"verdict       score     threshold  p-value   P(AI)     path\n"

    def record(self, record: ImageRecord) -> bytes:
        """Return the line of an image."""
        row = max(rows(record), key=lambda row: -inf if row["score"] is None else row["score"])
        shown = [row[name] for name in ("score", "threshold", "p_value", "p_ai_generated")]
        score, least, p, ai = ("-" if value is None else f"{value:g}" for value in shown)
        line = f"{self._painted(record.verdict)}  {score:<8}  {least:<9}  {p:<8}  {ai:<8}  "
        line += printable(record.source)
        if row["rotation"]:
            line += f"  (turned by {row['rotation']} degrees)"
        if record.reason is not None:
            detail = f": {record.detail}" if record.detail else ""
            line += printable(f"  ({record.reason.value}{detail})")
        line += printable(_statement(record.provenance))
        return line.encode() + b"\n"

    def end(self, summary: RunSummary) -> bytes:
        """Return nothing: the command prints the summary itself."""
        return b""

    def _painted(self, verdict: Verdict) -> str:
        text = f"{verdict.value:<12}"
        if not self._colour or verdict not in self._COLOURS:
            return text
        from rich.style import Style

        return Style.parse(self._COLOURS[verdict]).render(text)
