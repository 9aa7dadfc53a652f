"""The scores of the faces of every set: raw, by variant of the crops, and as samples for the metrics."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bladescan.base.records import Scores
from bladescan.detectors.calibration import p_values, photographic_scores
from bladescan.detectors.manifest import CalibratedHead, HeadName
from bladescan.detectors.tile_scores import join_scores
from bladescan.evaluation.degradations import degrade
from bladescan.evaluation.metrics import Sample, anomaly_scores
from bladescan.evaluation.report import NO_VARIANT, Scored
from bladescan.runtimes.backend import Backend
from bladescan.scanning.cut_faces import Faces
from bladescan.scanning.scoring import joined_scores, score_in_batches


def score_variant(
    sets: Mapping[str, Faces], variant: str, backend: Backend, heads: list[HeadName], batch_size: int
) -> Scored:
    """Score the faces of every set, their crops degraded first.

    Args:
        sets: faces by set.
        variant: of `bladescan.evaluation.degradations.VARIANTS`.
        backend: a loaded detector.
        heads: those to keep.
        batch_size: crops in one model run.

    Returns:
        Raw scores; embeddings as well for `NO_VARIANT`.
    """
    found = {name: _scores(faces, variant, backend, batch_size) for name, faces in sets.items()}
    raw: dict[HeadName, dict[str, NDArray[np.float64]]] = {}
    for head in heads:
        sign = 1.0 if head == "one-class" else -1.0  # of the others, higher is more AI-generated
        raw[head] = {name: sign * photographic_scores(scores, head) for name, scores in found.items()}
    plain = variant == NO_VARIANT
    return Scored(raw, {name: scores.embedding for name, scores in found.items()} if plain else {})


def _scores(faces: Faces, variant: str, backend: Backend, batch_size: int) -> Scores:
    parts = []
    crops = faces.crops
    for start in range(0, len(crops), batch_size):
        part = score_in_batches(backend, degrade(crops[start : start + batch_size], variant), batch_size)
        assert part is not None
        parts.append(part)
    joined = joined_scores(parts)
    assert joined is not None
    return join_scores(joined, faces.counts.tolist(), backend.manifest.picture_rule.join)


def samples_of(
    scored: Scored, name: HeadName, head: CalibratedHead, rate: float, files: Mapping[str, NDArray[np.intp]]
) -> dict[str, Sample]:
    """Turn the raw scores of one head into samples by set.

    Args:
        scored: of one variant.
        name: of the head.
        head: its calibration.
        rate: false-alarm rate above which nothing is flagged.
        files: by set, what names the file of each face.
    """
    samples = {}
    for part, raw in scored.scores[name].items():
        anomaly = anomaly_scores(name, raw)
        samples[part] = Sample(anomaly, p_values(head, -anomaly) <= rate, files[part])
    return samples
