"""From scores to verdicts. What a verdict says depends on its image and on the settings alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import UsageError
from bladescan.base.records import FaceVerdict, ImageRecord, Scores, Verdict
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


def image_verdict(faces: Sequence[FaceVerdict]) -> Verdict:
    """Judge an image by its faces: AI-generated if any face is, no-face if there is none."""
    if not faces:
        return Verdict.NO_FACE
    flagged = any(face.verdict is Verdict.AI_GENERATED for face in faces)
    return Verdict.AI_GENERATED if flagged else Verdict.PHOTOGRAPHIC


def judge_again(record: ImageRecord, threshold: float) -> ImageRecord:
    """Judge a record anew: faces are flagged at p-values up to another threshold."""
    if not record.faces:
        return record
    faces = tuple(replace(face, verdict=_verdict(face.p_value, threshold)) for face in record.faces)
    return replace(record, faces=faces, verdict=image_verdict(faces))


def _verdict(p_value: float, threshold: float) -> Verdict:
    return Verdict.AI_GENERATED if p_value <= threshold else Verdict.PHOTOGRAPHIC


def _item(values: NDArray[np.float64] | None, index: int) -> float | None:
    return None if values is None else float(values[index])
