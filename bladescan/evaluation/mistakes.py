"""The worst mistakes of each head: those that a person should look at.

They are the face of each generator that it missed most clearly, and the one of each folder of photographs
that it flagged most clearly.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.detectors.manifest import HeadName
from bladescan.evaluation.image_sets import ImageSets
from bladescan.evaluation.metrics import anomaly_scores
from bladescan.evaluation.report import PHOTOGRAPHS, Scored


class Mistake(NamedTuple):
    """One face on the wrong side of the threshold.

    Attributes:
        head: that was wrong.
        kind: ``missed`` or ``false alarm``.
        group: the generator, or the folder of the photographs.
        name: of the file.
        score: raw: a log-likelihood, or P(AI-generated).
        n_wrong, n_faces: mistakes of this kind in the group, and its faces.
        crop: uint8 RGB ``[224, 224, 3]``, as it was scored.
    """

    head: HeadName
    kind: str
    group: str
    name: str
    score: float
    n_wrong: int
    n_faces: int
    crop: NDArray[np.uint8]


def worst_mistakes(images: ImageSets, scored: Scored, thresholds: Mapping[HeadName, float]) -> list[Mistake]:
    """Find the worst mistake of every head in every group that has one: generators first, in their order.

    Args:
        images: with the crops that were scored.
        scored: of those crops.
        thresholds: of raw scores, by head.
    """
    return [
        mistake
        for head, threshold in thresholds.items()
        for name, scores in scored.scores[head].items()
        for mistake in _of_set(images, head, threshold, name, scores)
    ]


def _of_set(
    images: ImageSets, head: HeadName, threshold: float, name: str, scores: NDArray[np.float64]
) -> Iterator[Mistake]:
    faces = images.sets[name]
    photographs = name == PHOTOGRAPHS
    beyond = anomaly_scores(head, scores) - float(anomaly_scores(head, np.array([threshold]))[0])
    wrong = beyond > 0 if photographs else beyond <= 0
    groups = [
        os.path.basename(os.path.dirname(faces.names[image])) if photographs else name
        for image in faces.images
    ]
    for group in dict.fromkeys(groups):
        places = np.flatnonzero([one == group for one in groups])
        mistaken = places[wrong[places]]
        if len(mistaken):
            worst = int(mistaken[np.argmax(np.abs(beyond[mistaken]))])
            yield Mistake(
                head,
                "false alarm" if photographs else "missed",
                group or PHOTOGRAPHS,
                faces.names[faces.images[worst]],
                float(scores[worst]),
                len(mistaken),
                len(places),
                faces.first_cuts[faces.first_crops[worst]],
            )
