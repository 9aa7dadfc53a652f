"""The records of an evaluation's report, and the scores that its plots draw. It computes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.detectors.manifest import HeadName, Subject

PHOTOGRAPHS = "photographs"
"""Name of the photographic set beside the names of the generators."""

UNKNOWN_MAKE = "unknown make"
"""Name of the photographs whose EXIF names no camera make."""

NO_VARIANT = "none"
"""Name of the variant that leaves the crops as they are."""


class Interval(NamedTuple):
    """A measured value and its 95% interval, all of them shares in [0, 1]."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """Photographs against one generator, or the mean over the generators. AI-generated is the positive class.

    Both classes weigh the same in ``accuracy``, ``average_precision`` and ``f_score``, however many faces
    they have, so that generators can be compared and averaged.

    Attributes:
        n_photographs: faces in the photographs.
        n_ai_generated: faces of the generator.
        accuracy: mean of TNR and TPR at the detector's threshold.
        auc: area under the ROC curve.
        average_precision: area under the precision-recall curve, as scikit-learn's.
        tpr_at_5, tpr_at_1: share of AI-generated faces found where 5% or 1% of *these* photographs are
            flagged: the threshold comes from the evaluation, not from the detector.
        tnr, fpr, fnr: at the detector's threshold.
        f_score: harmonic mean of precision and recall at the detector's threshold.
    """

    n_photographs: int
    n_ai_generated: int
    accuracy: Interval
    auc: Interval
    average_precision: Interval
    tpr_at_5: Interval
    tpr_at_1: Interval
    tnr: Interval
    fpr: Interval
    fnr: Interval
    f_score: Interval


METRIC_TITLES = {
    "auc": "AUC",
    "average_precision": "AP",
    "tpr_at_5": "TPR at 5%",
    "tpr_at_1": "TPR at 1%",
    "accuracy": "accuracy",
    "tnr": "TNR",
    "fpr": "FPR",
    "fnr": "FNR",
    "f_score": "F-score",
}
"""What people call each measure of `Metrics`, in the order of a page's columns.

To add a metric: a field of `Metrics`, its title here, and its computation in `bladescan.evaluation.metrics`.
"""


@dataclass(frozen=True, slots=True)
class VariantReport:
    """One head on one variant of the crops.

    Attributes:
        generators: by name.
        mean: of the generators' values, each generator counted once.
    """

    generators: dict[str, Metrics]
    mean: Metrics


@dataclass(frozen=True, slots=True)
class Stratum:
    """Shares of a part of the faces that are flagged, with Wilson intervals.

    Attributes:
        name: what the part has in common, in words.
        n_photographs, n_ai_generated: faces.
        false_alarm: flagged photographs, None where there is none.
        found: flagged AI-generated faces of all generators together, None where there is none.
    """

    name: str
    n_photographs: int
    n_ai_generated: int
    false_alarm: Interval | None
    found: Interval | None


@dataclass(frozen=True, slots=True)
class HeadReport:
    """One head of the detector.

    Attributes:
        threshold: of ``raw`` scores: a face is flagged at a log-likelihood below it (one-class), or at a
            P(AI-generated) above it (binary).
        variants: by name, `NO_VARIANT` first.
        by_size: by the side of the face, smallest first.
        by_make: photographs by camera make, most faces first, those of an `UNKNOWN_MAKE` last.
    """

    threshold: float
    variants: dict[str, VariantReport]
    by_size: list[Stratum] = field(default_factory=list)
    by_make: list[Stratum] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Baseline:
    """AUC of what sees no face.

    Attributes:
        generators: by name.
        mean: of the generators' values.
    """

    generators: dict[str, Interval]
    mean: Interval


@dataclass(frozen=True, slots=True)
class SetCounts:
    """Counts of one set of images.

    Attributes:
        files: listed.
        with_face: of them, those with a face.
        faces: in those.
        skipped: files without a face or not readable, by reason.
    """

    files: int
    with_face: int
    faces: int
    skipped: dict[str, int]


@dataclass(frozen=True, slots=True)
class CropMatch:
    """How both classes were made alike before anything else: to this side and back, by this JPEG between."""

    side: int
    quality: int


@dataclass(frozen=True, slots=True)
class Report:
    """All that an evaluation found. msgspec writes it as JSON; an `Interval` becomes ``[value, low, high]``.

    Attributes:
        version: of bladescan.
        detector: name in the manifest.
        detector_sha256: of its file.
        backend, device, face_finder: what ran it.
        false_alarm: the rate at which the detector's threshold was asked.
        match: None where the crops were taken as they were.
        photographs: counts.
        ai_generated: counts by generator, in the order given.
        heads: by name.
        baselines: by name: ``files`` (size, dimensions, format and JPEG quantisation of the file),
            ``compressed-size`` (bytes of a JPEG of the crop that was scored).
        warnings: one line each.
        subject: what was judged, ``face`` or ``image``: then a face stands for a picture as a whole.
    """

    version: str
    detector: str
    detector_sha256: str
    backend: str
    device: str
    face_finder: str
    false_alarm: float
    match: CropMatch | None
    photographs: SetCounts
    ai_generated: dict[str, SetCounts]
    heads: dict[HeadName, HeadReport]
    baselines: dict[str, Baseline]
    warnings: list[str]
    subject: Subject = "face"


@dataclass(frozen=True, slots=True)
class Scored:
    """Raw scores of one variant, for plots.

    Attributes:
        scores: by head, then by set (`PHOTOGRAPHS` or a generator), float64 ``[n_faces]``: log-likelihoods
            (one-class), or P(AI-generated) (binary).
        embeddings: by set, float32 ``[n_faces, d]``; empty but for the variant `NO_VARIANT`.
    """

    scores: dict[HeadName, dict[str, NDArray[np.float64]]]
    embeddings: dict[str, NDArray[np.float32]] = field(default_factory=dict)
