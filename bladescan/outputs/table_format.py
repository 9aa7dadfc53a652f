"""Verdicts as a table for people to read on a terminal."""

from __future__ import annotations

import os
from math import inf, log10
from typing import Any

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


_CELLS = 10
_EIGHTHS = " ▏▎▍▌▋▊▉"
_FULL = 2.0
"""Powers of ten of the p-value at which a bar is full: 0.01, as suspicious as one photograph in a hundred."""


def _bar(p: float | None) -> str:
    """Draw how suspicious a face is among photographs: nothing at a p-value of 1, ten cells at 0.01."""
    share = 0.0 if p is None else min(max(-log10(max(p, 1e-300)) / _FULL, 0.0), 1.0)
    full, eighths = divmod(round(share * _CELLS * 8), 8)
    return f"{'█' * full}{_EIGHTHS[eighths] if eighths else ''}".ljust(_CELLS)


def _suspicion(row: dict[str, Any]) -> tuple[float, float]:
    """Compare rows by their p-values first: faces and whole pictures have scores of two detectors."""
    p, score = row["p_smooth"], row["score"]
    return -inf if p is None else -p, -inf if score is None else score


class TableFormat:
    """A line for each image, for people: its most suspicious face decides what is shown."""

    _COLOURS = {
        Verdict.AI_GENERATED: "bold red",
        Verdict.UNREADABLE: "yellow",
        Verdict.NOT_FLAGGED: "green",
    } | {Verdict.UNSURE: "magenta"}

    def __init__(self, run: RunInfo, terminal: bool) -> None:
        self._colour = terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"

    def begin(self) -> bytes:
        """Return the line of headings."""
        return b"verdict       suspicion   score     threshold  p-value   P(AI)     path\n"

    def record(self, record: ImageRecord) -> bytes:
        """Return the line of an image."""
        row = max(rows(record), key=_suspicion)
        shown = [row[name] for name in ("score", "threshold", "p_value", "p_ai_generated")]
        score, least, p, ai = ("-" if value is None else f"{value:g}" for value in shown)
        verdict = self._painted(f"{record.verdict.value:<12}  {_bar(row['p_smooth'])}", record.verdict)
        line = f"{verdict}  {score:<8}  {least:<9}  {p:<8}  {ai:<8}  {printable(record.source)}"
        if row["rotation"]:
            line += f"  (turned by {row['rotation']} degrees)"
        if record.reason is not None:
            detail = f": {record.detail}" if record.detail else ""
            line += printable(f"  ({record.reason.value}{detail})")
        if row["subject"] == "image":
            line += "  (the whole picture)"
        line += printable(_statement(record.provenance))
        return line.encode() + b"\n"

    def end(self, summary: RunSummary) -> bytes:
        """Return nothing: the command prints the summary itself."""
        return b""

    def _painted(self, text: str, verdict: Verdict) -> str:
        if not self._colour or verdict not in self._COLOURS:
            return text
        from rich.style import Style

        return Style.parse(self._COLOURS[verdict]).render(text)
