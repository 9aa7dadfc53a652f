"""Which faces are explained, and what an explanation says once it is known which of its views are flagged.

`bladescan.scanning.explainer` is what explains them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bladescan.base.records import FaceVerdict, Verdict
from bladescan.faces.views import VIEWS
from bladescan.scanning.stability import agreement


@dataclass(frozen=True, slots=True)
class Explaining:
    """Which faces are explained.

    Attributes:
        highest: p-value up to which they are; None where the verdict is known already.
    """

    highest: float | None = None

    def looks_at(self, face: FaceVerdict) -> bool:
        """Tell whether a face is explained."""
        if self.highest is None:
            return face.verdict is Verdict.AI_GENERATED
        return face.p_value <= self.highest


def with_flips(face: FaceVerdict, rate: float) -> FaceVerdict:
    """Say which views of an explained face are judged otherwise at a rate; of one not flagged, say nothing.

    Args:
        face: judged at that rate.
        rate: a face is flagged if its p-value is at most this.
    """
    if face.explanation is None or face.verdict is not Verdict.AI_GENERATED:
        return replace(face, explanation=None)
    if not face.views:
        return face
    flips = tuple(name for name, view in zip(VIEWS, face.views, strict=True) if view > rate)
    stability = agreement(face.p_value, face.views, rate)
    return replace(face, explanation=replace(face.explanation, stability=stability, flips=flips))
