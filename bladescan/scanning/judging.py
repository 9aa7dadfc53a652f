"""From scores to verdicts. What a verdict says depends on its image and on the settings alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import UsageError
from bladescan.base.provenance_record import Provenance
from bladescan.base.records import FaceVerdict, FlaggedBy, ImageRecord, Scores, Verdict
from bladescan.detectors.calibration import p_values, photographic_scores
from bladescan.detectors.manifest import CalibratedHead, HeadName, Manifest
from bladescan.scanning.decoder_process import Decoded


def choose_head(manifest: Manifest, asked: str) -> HeadName:
    """Choose the head asked for, or for ``auto`` the detector's own default.

    Raises:
        UsageError: the detector does not have it.
    """
    for name in manifest.heads:
        if asked == name or (asked == "auto" and name == manifest.default_head):
            return name
    have = ", ".join(manifest.heads) or "none (a bare encoder: run bladescan fit)"
    raise UsageError(f"the detector {manifest.name!r} has no {asked} head. Available: {have}.")


def judge_faces(
    decoded: Decoded, scores: Scores, calibration: CalibratedHead, head: HeadName, false_alarm: float
) -> tuple[FaceVerdict, ...]:
    """Judge the faces of one image; ``scores`` holds their rows only."""
    ranks = p_values(calibration, photographic_scores(scores, head))
    return tuple(
        FaceVerdict(
            frame=face.frame,
            box=face.box,
            log_likelihood=_item(scores.log_likelihood, index),
            p_ai_generated=_item(scores.p_ai_generated, index),
            p_value=float(ranks[index]),
            verdict=_verdict(float(ranks[index]), false_alarm),
        )
        for index, face in enumerate(decoded.faces)
    )


def judge_image(record: ImageRecord, *, declares: bool) -> ImageRecord:
    """Judge an image: AI-generated if any face is, or if its file says so; no-face if there is none.

    Args:
        record: of an image that could be read, its faces judged.
        declares: the file says that the image is AI-generated, and that counts.
    """
    detected = any(face.verdict is Verdict.AI_GENERATED for face in record.faces)
    flagged_by = _FLAGGED_BY.get((detected, declares))
    verdict = Verdict.PHOTOGRAPHIC if record.faces else Verdict.NO_FACE
    if flagged_by is not None:
        verdict = Verdict.AI_GENERATED
    return replace(record, verdict=verdict, flagged_by=flagged_by)


_FLAGGED_BY = {
    (True, False): FlaggedBy.DETECTOR,
    (False, True): FlaggedBy.DECLARED,
    (True, True): FlaggedBy.BOTH,
}


def declares(provenance: Provenance | None) -> bool:
    """Tell whether a file says that it is AI-generated. That a model edited it does not count."""
    return provenance is not None and provenance.declared == "ai-generated"


def judge_again(record: ImageRecord, threshold: float) -> ImageRecord:
    """Judge a record anew: faces are flagged at p-values up to another threshold."""
    if not record.faces:
        return record
    faces = tuple(replace(face, verdict=_verdict(face.p_value, threshold)) for face in record.faces)
    declared = record.flagged_by in (FlaggedBy.DECLARED, FlaggedBy.BOTH)
    return judge_image(replace(record, faces=faces), declares=declared)


def _verdict(p_value: float, threshold: float) -> Verdict:
    return Verdict.AI_GENERATED if p_value <= threshold else Verdict.PHOTOGRAPHIC


def _item(values: NDArray[np.float64] | None, index: int) -> float | None:
    return None if values is None else float(values[index])
