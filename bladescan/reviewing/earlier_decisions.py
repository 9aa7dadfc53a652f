"""What reviewers decided before, found again on the same face and on its near-duplicates.

Only a face that somebody looked at is an anchor, so that likeness does not drift from copy to copy. A
near-duplicate of a face that was decided photographic is asked about all the same: whoever wants an image
cleared could make it look like a cleared one. One of a face that was decided AI-generated need not be: there
is nothing to gain by looking like it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from bladescan.base.places import are_one
from bladescan.ledger.decisions import AI_GENERATED, PHOTOGRAPHIC, FaceDecision
from bladescan.reviewing.near_duplicates import Leaders, Look


class EarlierDecision(NamedTuple):
    """A decision that was made before.

    Attributes:
        decision: the decision.
        is_same: whether it is on this very face, and not on one that looks like it.
        is_settled: whether nobody need be asked again.
    """

    decision: FaceDecision
    is_same: bool
    is_settled: bool

    def told(self) -> str:
        """Say it in words, for a card."""
        day = datetime.fromtimestamp(self.decision.decided_at, UTC).date().isoformat()
        of = "" if self.is_same else ", of a picture that looks like it"
        return f"{self.decision.decision} on {day}{of}"


class EarlierDecisions:
    """Decisions by content and by likeness.

    Args:
        decisions: all that are known.
    """

    def __init__(self, decisions: Iterable[FaceDecision] = ()) -> None:
        self._decisions: list[FaceDecision] = []
        self._equal: dict[tuple[str, int], FaceDecision] = {}
        self._alike = {AI_GENERATED: Leaders(), PHOTOGRAPHIC: Leaders()}
        for decision in decisions:
            if decision.looked_at:
                self._add(decision)

    def _add(self, decision: FaceDecision) -> None:
        self._equal[decision.key] = decision
        hashes = (decision.picture_hash, decision.crop_hash)
        if decision.is_sure and all(hashes):  # a picture of one colour is like any other: its hash is 0
            look = Look(*hashes, decision.place, decision.key)
            self._alike[decision.decision].add(len(self._decisions), look)
            self._decisions.append(decision)

    def find(self, look: Look, frame: int = 0) -> EarlierDecision | None:
        """Find what was decided of a face, or of one that looks like it; None if nothing was.

        Args:
            look: of the face.
            frame: that the face is in. The number of a face of a later one is another's in a scan of more
                or fewer frames: there only likeness tells.
        """
        same = None if frame else self._equal.get(look.content)
        if same is not None and are_one(same.place, look.place):
            return EarlierDecision(same, True, same.is_sure)
        if not (look.picture and look.crop):
            return None
        # Where it looks like both, somebody has to look at it.
        for word in (PHOTOGRAPHIC, AI_GENERATED):
            index = self._alike[word].near(look)
            if index is not None:
                return EarlierDecision(self._decisions[index], False, word == AI_GENERATED)
        return None
