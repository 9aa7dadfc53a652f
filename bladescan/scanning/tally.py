"""Counts of a scan and what it spends, from which its summary and its exit code follow."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bladescan.base.exit_codes import ExitCode, ExitRule
from bladescan.base.provenance_record import DECLARED
from bladescan.base.records import Cost, FlaggedBy, ImageRecord, Verdict
from bladescan.ledger.decisions import DECISIONS, reviewed_verdict
from bladescan.outputs.run import RunSummary
from bladescan.sources.source import Source

STAGES = ("list", "fetch", "decode", "score", "write")


@dataclass(slots=True)
class Tally:
    """Counts of a scan and what it spends; owns its exit code, by a rule.

    ``n_passed`` counts sources that are scanned, also those whose rows are held back; ``n_left_out`` asks for
    those that need no scan.
    """

    rule: ExitRule = ExitRule()
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    reviewed: Counter[Verdict] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    declared: Counter[str] = field(default_factory=Counter)
    flagged_by: Counter[str] = field(default_factory=Counter)
    n_faces: int = 0
    n_pictures: int = 0
    n_unchanged: int = 0
    n_other_files: int = 0
    n_below_top: int = 0
    threshold: float | None = None
    n_passed: int = 0
    n_left_out: Callable[[], int] = lambda: 0
    bytes_read: int = 0
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    started: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Start the clock: the detector is loaded."""
        self.started = time.monotonic()

    @property
    def n_done(self) -> int:
        """How many of the listed sources are done, while the scan runs."""
        return self.n_passed + self.n_left_out()

    def passing(self, records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
        """Hand records on, and count them for `n_done`."""
        for record in records:
            self.n_passed += 1
            yield record

    def count(self, record: ImageRecord) -> None:
        """Count one image."""
        self.verdicts[record.verdict] += 1
        self.reviewed[reviewed_verdict(record)] += 1
        self.decisions.update(face.decision for face in record.faces if face.decision is not None)
        n_pictures = sum(face.subject == "image" for face in record.faces)
        self.n_pictures += n_pictures
        self.n_faces += len(record.faces) - n_pictures
        if record.reason is not None:
            self.reasons[record.reason.value] += 1
        if record.provenance is not None:
            self.declared[record.provenance.declared] += 1
        if record.flagged_by is not None:
            self.flagged_by[record.flagged_by.value] += 1
        if record.cost is not None:
            self._spend(record.cost)

    def count_other(self, record: ImageRecord) -> None:
        """Count a file that is no picture: neither an image nor an error, but it was read."""
        self.n_other_files += 1
        if record.cost is not None:
            self._spend(record.cost)

    def _spend(self, cost: Cost) -> None:
        self.bytes_read += cost.n_bytes
        for stage, seconds in (("fetch", cost.fetch_s), ("decode", cost.decode_s), ("score", cost.score_s)):
            self.stage_seconds[stage] += seconds

    @contextmanager
    def spending(self, stage: str) -> Iterator[None]:
        """Add the seconds that the context takes to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds[stage] += time.perf_counter() - started

    def listing(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Hand sources on, and count the time until each is there as listing."""
        iterator = iter(sources)
        while True:
            with self.spending("list"):
                source = next(iterator, None)
            if source is None:
                return
            yield source

    def exit_code(self, *, is_stopped: bool = False) -> ExitCode:
        """Tell what the shell is told of a scan that ran to its end, or was stopped by a limit."""
        verdicts = self.reviewed if self.rule.reviewed else self.verdicts
        return self.rule.code(
            n_flagged=verdicts[Verdict.AI_GENERATED],
            n_unsure=verdicts[Verdict.UNSURE],
            n_unreadable=self.verdicts[Verdict.UNREADABLE],
            is_empty=not (self.verdicts.total() or self.n_unchanged),
            is_stopped=is_stopped,
        )

    def summary(self, exit_code: ExitCode | None = None, reason: str | None = None) -> RunSummary:
        """Make the summary record.

        Args:
            exit_code: of a scan that did not reach its end.
            reason: why it did not.
        """
        seconds = round(time.monotonic() - self.started, 3)
        n_images, n_faces = self.verdicts.total(), self.n_faces
        return RunSummary(
            n_images=n_images,
            n_faces=n_faces,
            verdicts={verdict.value: self.verdicts[verdict] for verdict in Verdict},
            reasons=dict(sorted(self.reasons.items())),
            declared={word: self.declared[word] for word in DECLARED},
            decisions={word: self.decisions[word] for word in DECISIONS},
            flagged_by={what.value: self.flagged_by[what.value] for what in FlaggedBy},
            seconds=seconds,
            exit_code=int(self.exit_code() if exit_code is None else exit_code),
            complete=exit_code is None,
            reason=reason,
            n_unchanged=self.n_unchanged,
            n_other_files=self.n_other_files,
            n_below_top=self.n_below_top,
            n_pictures=self.n_pictures,
            threshold=self.threshold,
            bytes_read=self.bytes_read,
            images_per_second=round(n_images / max(seconds, 1e-3), 3),
            faces_per_second=round(n_faces / max(seconds, 1e-3), 3),
            stage_seconds={stage: round(spent, 3) for stage, spent in self.stage_seconds.items()},
        )
