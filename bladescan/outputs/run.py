"""What an output says of the run as a whole: what made the verdicts, and how many of each there were."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from bladescan.base import clock

SCHEMA_VERSION = 4
"""Of the documents; it grows when a reader of the last version could misread a new one."""


@dataclass(frozen=True, slots=True)
class ImageDetector:
    """What judged whole pictures beside faces.

    Attributes:
        detector, detector_sha256: its name and the digest of its file.
        backend, head: what ran and what decided.
        false_alarm: the rate asked for.
        threshold: the score above which a picture is flagged.
    """

    detector: str
    detector_sha256: str
    backend: str
    head: str
    false_alarm: float
    threshold: float | None


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What made the verdicts.

    Attributes:
        version: of bladescan.
        detector, detector_sha256: its name and the digest of its file.
        backend, device, face_finder, head: what ran and what decided.
        false_alarm: the rate asked for, None under ``fdr``.
        fdr: the false-discovery rate asked for, else None.
        threshold: the score above which a face is flagged, None under ``fdr``.
        started: ISO 8601, UTC.
        declared: what is done with what files say of themselves: ``flag``, ``report`` or ``ignore``.
        provenance_reader: digest of all that decides how that is read, None if it is not.
        trust_list: SHA-256 of the trust list, None without one.
        storey: under ``fdr``, the share of photographs was estimated.
        stability: share of views below which a verdict near the threshold is ``unsure``; None without.
        components: names of the scores that are combined, in the order of their columns; none without.
        combined_by: the rule by which they are combined; empty without.
        measured: what false-alarm rates were measured, in words; empty if none were.
        subject: what was judged: ``face``, ``image`` or ``both``. The fields above are of the detector of
            faces, unless only pictures as a whole were judged.
        image_detector: that of whole pictures under ``both``, else None.
    """

    version: str
    detector: str
    detector_sha256: str
    backend: str
    device: str
    face_finder: str
    head: str
    false_alarm: float | None
    fdr: float | None
    threshold: float | None
    started: str
    declared: str = "ignore"
    provenance_reader: str | None = None
    trust_list: str | None = None
    storey: bool = False
    stability: float | None = None
    components: tuple[str, ...] = ()
    combined_by: str = ""
    measured: str = ""
    subject: str = "face"
    image_detector: ImageDetector | None = None
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Counts of a run.

    Attributes:
        verdicts, reasons: images by verdict, unreadable ones by reason.
        declared: images by what their files say; unread ones are in none.
        flagged_by: images that are ``ai-generated``, by what made them so.
        seconds: wall clock.
        complete: False if the scan was interrupted, stopped or failed.
        reason: why it is not complete, else None.
        n_unchanged: sources that the ledger knew, whether they have rows or not.
        n_other_files: files below folders that are no pictures and have no rows.
        n_below_top: images that have no rows because only the most suspicious ones were asked for.
        n_pictures: images that were judged as a whole.
        threshold: the score above which a face was flagged, also under ``fdr``; None where no score is high
            enough.
        bytes_read: of files, by this run.
        images_per_second, faces_per_second: by the wall clock.
        stage_seconds: by stage, summed over processes that work at the same time.
        decisions: faces by what a reviewer decided of them, as the ledger knows.
    """

    n_images: int
    n_faces: int
    verdicts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    declared: dict[str, int] = field(default_factory=dict)
    flagged_by: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    exit_code: int = 0
    complete: bool = True
    reason: str | None = None
    n_unchanged: int = 0
    n_other_files: int = 0
    n_below_top: int = 0
    n_pictures: int = 0
    threshold: float | None = None
    bytes_read: int = 0
    images_per_second: float = 0.0
    faces_per_second: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    decisions: dict[str, int] = field(default_factory=dict)

    def as_written(self) -> Self:
        """Leave out what differs between equal runs (times, bytes read) if ``SOURCE_DATE_EPOCH`` is set."""
        if not clock.is_stopped():
            return self
        stages = dict.fromkeys(self.stage_seconds, 0.0)
        return replace(
            self,
            seconds=0.0,
            bytes_read=0,
            images_per_second=0.0,
            faces_per_second=0.0,
            stage_seconds=stages,
        )
