"""From scores to verdicts. What a verdict says depends on its image and on the settings alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import UsageError
from bladescan.base.provenance_record import Provenance
from bladescan.base.records import ComponentVerdict, FaceVerdict, FlaggedBy, ImageRecord, Scores, Verdict
from bladescan.detectors.calibration import lowest_p_value, p_values, photographic_scores
from bladescan.detectors.combination import least_p_value
from bladescan.detectors.manifest import CalibratedHead, Combination, Component, HeadName, Manifest
from bladescan.detectors.smoothing import smooth_p_values
from bladescan.detectors.suspicion import suspicion, suspicion_threshold
from bladescan.scanning.decoder_process import Decoded
from bladescan.scanning.explaining import with_flips
from bladescan.scanning.stability import Stability, agreement, is_near


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


@dataclass(frozen=True, slots=True)
class Judge:
    """One head of a detector and how small a p-value must be.

    Attributes:
        head: the one that decides.
        calibration: of that head.
        rate: a face is flagged if its p-value is at most this.
        stability: how sure a verdict must be; None for no look at views.
        combination: how the head is made of other scores, if it is.
    """

    head: HeadName
    calibration: CalibratedHead
    rate: float
    stability: Stability | None = None
    combination: Combination | None = None

    @property
    def components(self) -> tuple[Component, ...]:
        """The scores that are combined, if the head combines any."""
        return () if self.combination is None else self.combination.components

    @property
    def least_p_value(self) -> float:
        """The smallest p-value that a face can have."""
        if self.combination is None:
            return lowest_p_value(self.calibration)
        return least_p_value(self.combination, self.calibration)

    def threshold(self) -> float | None:
        """Find the score above which a face is flagged; None where no score is high enough."""
        if self.rate <= 0.0 or lowest_p_value(self.calibration) > self.rate:
            return None
        return suspicion_threshold(self.calibration, self.head, self.rate)

    def faces(self, decoded: Decoded, scores: Scores) -> tuple[FaceVerdict, ...]:
        """Judge the faces of one image, or the image as a whole; ``scores`` holds their rows only."""
        photographic = photographic_scores(scores, self.head)
        suspicious = suspicion(photographic, self.head)
        ranks = p_values(self.calibration, photographic)
        smooth = smooth_p_values(self.calibration, self.head, suspicious)
        threshold, components = self.threshold(), self._components(scores)
        return tuple(
            FaceVerdict(
                frame=face.frame,
                box=face.box,
                log_likelihood=_item(scores.log_likelihood, index),
                p_ai_generated=_item(scores.p_ai_generated, index),
                p_value=float(ranks[index]),
                verdict=self._verdict(float(ranks[index])),
                head=self.head,
                score=float(suspicious[index]),
                threshold=threshold,
                p_smooth=float(smooth[index]),
                components=tuple(column[index] for column in components),
                subject=face.subject,
                tiles=face.n_crops if face.subject == "image" else None,
                coverage=face.coverage,
            )
            for index, face in enumerate(decoded.faces)
        )

    def _components(self, scores: Scores) -> list[list[ComponentVerdict]]:
        """Say what each of the combined scores says alone, by component and face."""
        if scores.components is None:
            return []
        found = []
        for component, photographic in zip(self.components, scores.components.T, strict=False):
            suspicious = suspicion(photographic, component.head)
            alone = p_values(component.calibration, photographic)
            pairs = zip(suspicious.tolist(), alone.tolist(), strict=True)
            found.append([ComponentVerdict(component.name, score, p) for score, p in pairs])
        return found

    def looks_at(self, face: FaceVerdict) -> bool:
        """Tell whether the views of a face decide as well."""
        return self.stability is not None and self.stability.looks_at(face.p_smooth, self.rate)

    def with_views(self, face: FaceVerdict, scores: Scores) -> FaceVerdict:
        """Judge a face by its views as well; ``scores`` holds their rows only."""
        views = p_values(self.calibration, photographic_scores(scores, self.head))
        return self._judged(replace(face, views=tuple(views.tolist())))

    def again(self, record: ImageRecord) -> ImageRecord:
        """Judge a record anew that was judged at another rate."""
        if not record.faces:
            return record
        threshold = self.threshold()
        faces = tuple(
            with_flips(self._judged(replace(face, threshold=threshold)), self.rate) for face in record.faces
        )
        declared = record.flagged_by in (FlaggedBy.DECLARED, FlaggedBy.BOTH)
        return judge_image(replace(record, faces=faces), declares=declared)

    def _judged(self, face: FaceVerdict) -> FaceVerdict:
        verdict, share = self._verdict(face.p_value), None
        if self.stability is not None and face.views and is_near(face.p_smooth, self.rate):
            share = agreement(face.p_value, face.views, self.rate)
            verdict = verdict if share >= self.stability.limit else Verdict.UNSURE
        return replace(face, verdict=verdict, stability=share)

    def _verdict(self, p_value: float) -> Verdict:
        return Verdict.AI_GENERATED if p_value <= self.rate else Verdict.NOT_FLAGGED


def judge_image(record: ImageRecord, *, declares: bool) -> ImageRecord:
    """Judge an image: AI-generated if any face is, or if its file says so; unsure if any is; no-face without.

    Args:
        record: of an image that could be read, its faces judged.
        declares: the file says that the image is AI-generated, and that counts.
    """
    found = {face.verdict for face in record.faces}
    flagged_by = _FLAGGED_BY.get((Verdict.AI_GENERATED in found, declares))
    verdict = Verdict.UNSURE if Verdict.UNSURE in found else Verdict.NOT_FLAGGED
    verdict = verdict if found else Verdict.NO_FACE
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


def _item(values: NDArray[np.float64] | None, index: int) -> float | None:
    return None if values is None else float(values[index])
