"""One feedback, from the files of decisions to what they say. It prints nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bladescan.base.text import counted
from bladescan.feedback.decision_files import Decisions, read_decisions
from bladescan.feedback.picture_lists import SAMPLE, PictureLists, write_lists
from bladescan.feedback.proposal import Proposal, propose
from bladescan.feedback.rates import (
    NOT_FLAGGED,
    MeasuredShare,
    RateBounds,
    ScanRates,
    measured_share,
    scan_rates,
)
from bladescan.feedback.scanned_faces import (
    FLAGGED,
    SIDES,
    Label,
    ScannedFaces,
    decided_faces,
    scanned_faces,
    without_face,
)
from bladescan.feedback.strata import ScoreStratum, Strata, alike, representative, score_bands
from bladescan.images.limits import Limits
from bladescan.ledger.decision_table import KeptDecisions
from bladescan.ledger.decisions import count_words
from bladescan.ledger.ledger import Ledger

FEW = 100
"""Photographs below which a threshold is a rough one: its realised rate may be twice that asked for."""


@dataclass(frozen=True, slots=True)
class FeedbackOptions:
    """What the user asks of a feedback.

    Attributes:
        verdicts: of the scan that was reviewed; without them only what was looked at can be described.
        false_alarm: the rate for which a threshold is proposed.
        lists: folder for lists of pictures, None for none; it is there.
        ledger: file to keep the decisions in, None for none.
        limits: of the files that the lists name.
    """

    verdicts: tuple[Path, ...] = ()
    false_alarm: float = 0.05
    lists: Path | None = None
    ledger: str | None = None
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class FolderShares:
    """What was looked at in one folder: photographic of the flagged, AI-generated of the not flagged."""

    folder: str
    false_among_flagged: MeasuredShare
    missed_among_others: MeasuredShare


@dataclass(frozen=True, slots=True)
class Feedback:
    """What decisions say of a scan.

    Attributes:
        decisions: as they were read.
        faces: of the scan, or the decided ones alone.
        false_among_flagged: photographic faces among the flagged ones that were looked at.
        missed_among_others: AI-generated faces among those that were not flagged and were looked at.
        bands: by verdict and score.
        strata: neighbouring bands that were looked into alike, joined.
        rates: of the whole scan, None without its verdicts.
        by_folder: most looked at first.
        proposal: a threshold; None if there is none.
        lists: what was written; None if nothing.
        kept: what became of the decisions in the ledger; None without one.
        said: what is to be known of the numbers, in words.
    """

    decisions: Decisions
    faces: ScannedFaces
    false_among_flagged: MeasuredShare
    missed_among_others: MeasuredShare
    bands: list[ScoreStratum]
    strata: list[ScoreStratum]
    rates: ScanRates | None
    by_folder: list[FolderShares]
    proposal: Proposal | None
    lists: PictureLists | None
    kept: KeptDecisions | None
    said: list[str]


def read_feedback(files: Sequence[Path], options: FeedbackOptions = FeedbackOptions()) -> Feedback:  # noqa: B008
    """Measure a scan by the decisions of its reviewers, propose a threshold, and write lists.

    Args:
        files: of decisions, JSON Lines or CSV.
        options: what the user asks.

    Raises:
        UsageError: a file is not there.
        DataError: one is damaged, or no such file.
        OutputError: a list or the ledger cannot be written.
    """
    decisions = read_decisions(files)
    faces = scanned_faces(options.verdicts, decisions) if options.verdicts else decided_faces(decisions)
    bands = score_bands(faces)
    strata = alike(faces, bands)
    proposal = propose(faces, strata, options.false_alarm) if faces.is_whole else None
    kept, lists = _keep(decisions, options.ledger), None
    sample = representative(faces, strata) if faces.is_whole else None
    if options.lists is not None:
        lists = write_lists(options.lists, decisions, sample, options.limits)
    false_alarms, missed = _looked_at(faces, np.ones(len(faces), np.bool_))
    return Feedback(
        decisions,
        faces,
        false_alarms,
        missed,
        bands.strata,
        strata.strata,
        scan_rates(strata.strata) if faces.is_whole else None,
        _by_folder(faces),
        proposal,
        lists,
        kept,
        list(_said(decisions, faces, strata, proposal, options)),
    )


def _keep(decisions: Decisions, path: str | None) -> KeptDecisions | None:
    if path is None:
        return None
    ledger = Ledger(path)
    try:
        return ledger.keep_decisions(decisions.faces.values())
    finally:
        ledger.close()


def _looked_at(faces: ScannedFaces, here: Any) -> tuple[MeasuredShare, MeasuredShare]:
    """Share out the faces that were looked at: false alarms of the flagged, misses of the not flagged."""
    flagged = here & faces.is_sure & (faces.sides == FLAGGED)
    others = here & faces.is_sure & (faces.sides == NOT_FLAGGED)
    photographic, generated = faces.labels == Label.PHOTOGRAPHIC, faces.labels == Label.AI_GENERATED
    return (
        measured_share(int((flagged & photographic).sum()), int(flagged.sum())),
        measured_share(int((others & generated).sum()), int(others.sum())),
    )


def _by_folder(faces: ScannedFaces) -> list[FolderShares]:
    n_sure = np.bincount(faces.folders[faces.is_sure], minlength=len(faces.folder_names))
    found = [
        FolderShares(faces.folder_names[folder], *_looked_at(faces, faces.folders == folder))
        for folder in np.flatnonzero(n_sure)
    ]
    return sorted(found, key=lambda each: -(each.false_among_flagged.n + each.missed_among_others.n))


def _said(
    decisions: Decisions,
    faces: ScannedFaces,
    strata: Strata,
    proposal: Proposal | None,
    options: FeedbackOptions,
) -> Iterable[str]:
    """Say what the numbers cannot."""
    yield from faces.cautions
    if faces.n_copies:
        yield (
            f"{counted(faces.n_copies, 'face')} decided as near-duplicates or equal files of others count "
            "for nothing of their own."
        )
    if faces.n_elsewhere:
        yield f"{counted(faces.n_elsewhere, 'decided face')} not in the verdicts: of another scan, or moved."
    if n := without_face(decisions):
        yield f"{counted(n, 'decision')} on pictures without a face, which measure nothing of the faces."
    n_flagged, n_others = (
        int((faces.is_sure & (faces.sides == side)).sum()) for side in (FLAGGED, NOT_FLAGGED)
    )
    if not n_flagged:
        yield "No flagged face was reviewed: false alarms are unknown."
    if not n_others:
        yield "No face that was not flagged was reviewed: misses are unknown. Review some, at random."
    if not faces.is_whole:
        yield "Rates of the whole scan, and a threshold, need its verdicts: --verdicts FILE."
        return
    for stratum in strata.strata:
        if not stratum.n_sure:
            yield (
                f"Of the {stratum.n} faces with verdict {SIDES[stratum.side]} and a score from "
                f"{stratum.low:.4g} to {stratum.high:.4g} none was reviewed: what they are is unknown. "
                "Review some, at random."
            )
    yield from _said_of_threshold(faces, strata, proposal, options)


def _said_of_threshold(
    faces: ScannedFaces, strata: Strata, proposal: Proposal | None, options: FeedbackOptions
) -> Iterable[str]:
    n = int((faces.labels == Label.PHOTOGRAPHIC).sum())
    if proposal is None:
        yield (
            f"No threshold is proposed: {counted(n, 'photographic face')}, each standing for so many others, "
            f"are too few for a false-alarm rate of {options.false_alarm:g}. Review more, or ask for "
            "a higher rate."
        )
        return
    if proposal.n_assumed:
        yield (
            f"The threshold takes {counted(proposal.n_assumed, 'face')} that nobody reviewed for "
            "photographs. If they are not, more photographs are flagged than asked."
        )
    if n < FEW:
        yield f"The threshold stands on {counted(n, 'photographic face')} only: it is a rough one."
    if options.lists is not None and representative(faces, strata) is None:
        yield (
            f"No {SAMPLE} was written: photographs chosen for their scores would set a wrong threshold, and "
            "parts of the scan were not reviewed."
        )


def as_json(found: Feedback) -> dict[str, Any]:
    """Return what was found as plain values for JSON; shares are unrounded."""
    faces = found.faces
    return {
        "schema": 1,
        "decisions": {
            "lines": found.decisions.n_lines,
            "replaced": found.decisions.n_replaced,
            **count_words(found.decisions.faces.values()),
            "without_face": without_face(found.decisions),
            "not_looked_at": faces.n_copies,
            "not_in_verdicts": faces.n_elsewhere,
        },
        "reviewed": {
            "false_among_flagged": _share(found.false_among_flagged),
            "missed_among_not_flagged": _share(found.missed_among_others),
        },
        "scan": None if found.rates is None else _scan(found.rates, faces),
        "by_score": [_stratum(band) for band in found.bands],
        "strata": [_stratum(stratum) for stratum in found.strata],
        "by_folder": [
            {
                "folder": each.folder,
                "false_among_flagged": _share(each.false_among_flagged),
                "missed_among_not_flagged": _share(each.missed_among_others),
            }
            for each in found.by_folder
        ],
        "threshold": None if found.proposal is None else found.proposal._asdict(),
        "lists": None if found.lists is None else {"n": found.lists.n, "left_out": found.lists.left_out},
        "ledger": None if found.kept is None else found.kept._asdict(),
        "notices": found.said,
    }


def _share(share: MeasuredShare) -> dict[str, Any]:
    return {
        "count": share.n_found,
        "n": share.n,
        "share": share.share,
        "interval_95": [share.low, share.high],
    }


def _scan(rates: ScanRates, faces: ScannedFaces) -> dict[str, Any]:
    def told(rate: RateBounds) -> dict[str, Any]:
        return {"estimate": rate.estimate, "interval_95": [rate.low, rate.high]}

    counts = {"n_faces": len(faces), "n_flagged": int((faces.sides == FLAGGED).sum())}
    return (
        counts | {"threshold": faces.threshold} | {name: told(rate) for name, rate in rates._asdict().items()}
    )


def _stratum(stratum: ScoreStratum) -> dict[str, Any]:
    share = measured_share(stratum.n_ai_generated, stratum.n_sure)
    return stratum._asdict() | {"side": SIDES[stratum.side], "ai_generated": _share(share)}
