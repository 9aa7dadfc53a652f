"""Loaded detectors whose scores are combined: the heads of one, or those of several. It is no runtime itself.

`bladescan.runtimes.registry.open_file` lays it around a backend whose manifest asks for it, so that no
backend needs to know of combinations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bladescan.base.errors import BackendError
from bladescan.base.records import CROP_SIZE, Scores
from bladescan.detectors.calibration import photographic_scores
from bladescan.detectors.combination import combined_scores
from bladescan.detectors.manifest import Combination, Manifest, crop_rules
from bladescan.runtimes.backend import Backend, PendingScores, check_crops

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CombinedBackend(Backend):
    """Several loaded detectors, or one with several heads, whose combined score decides.

    Crops are ``[n, 224, 224, 3]``, or ``[n, m, 224, 224, 3]`` where the detectors cut faces out in m ways
    (`bladescan.detectors.combination.crop_rules`).

    Args:
        manifest: of the whole, with a combination.
        parts: the detectors; closed with this.
    """

    def __init__(self, manifest: Manifest, parts: Sequence[Backend]) -> None:
        assert manifest.combination is not None
        self.device, self.manifest = parts[0].device, manifest
        self._combination: Combination = manifest.combination
        self._parts = tuple(parts)
        rules = crop_rules(manifest)
        own = self._combination.face_rules or (manifest.face_rule,)
        cuts = [(rule.scale, rule.resize) for rule in rules]
        self._cut_of = [cuts.index((rule.scale, rule.resize)) for rule in own]
        self._n_cuts = len(rules)

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed crops by the first detector, as `bladescan.runtimes.backend.Backend.embed` promises."""
        first = self._open_parts()[0]
        return first.embed(crops if crops.ndim == 4 else self._cut(crops, 0))

    def score(self, crops: NDArray[np.uint8]) -> Scores:
        """Score crops, as `bladescan.runtimes.backend.Backend.score` promises."""
        return self.submit(crops).result()

    def submit(self, crops: NDArray[np.uint8]) -> PendingScores:
        """Begin to score crops by all parts, as `bladescan.runtimes.backend.Backend.submit` promises."""
        under_way = [part.submit(self._cut(crops, i)) for i, part in enumerate(self._open_parts())]
        return _Pending(under_way, self._combination)

    def close(self) -> None:
        """Free all parts; closing twice is fine."""
        for part in self._parts:
            part.close()
        self._parts = ()

    def _open_parts(self) -> tuple[Backend, ...]:
        if not self._parts:
            raise BackendError("the combined detectors are closed")
        return self._parts

    def _cut(self, crops: NDArray[np.uint8], part: int) -> NDArray[np.uint8]:
        if self._n_cuts == 1:
            return crops
        if crops.ndim != 5 or crops.shape[1] != self._n_cuts:
            raise BackendError(
                f"crops must be uint8 [n, {self._n_cuts}, {CROP_SIZE}, {CROP_SIZE}, 3]: the detectors cut "
                f"faces out in {self._n_cuts} ways; got {crops.dtype} {list(crops.shape)}"
            )
        cut = crops[:, self._cut_of[part]]
        check_crops(cut)
        return cut


class _Pending:
    """Scores of all parts, perhaps still being computed."""

    def __init__(self, under_way: Sequence[PendingScores], combination: Combination) -> None:
        self._under_way, self._combination = under_way, combination
        self._found: Scores | None = None

    def done(self) -> bool:
        return all(pending.done() for pending in self._under_way)

    def result(self) -> Scores:
        if self._found is None:
            self._found = _joined([pending.result() for pending in self._under_way], self._combination)
        return self._found


def _joined(parts: Sequence[Scores], combination: Combination) -> Scores:
    columns = [photographic_scores(parts[one.part], one.head) for one in combination.components]
    components = np.stack(columns, 1)
    combined = combined_scores(combination, components)
    if len(parts) == 1:
        return parts[0]._replace(components=components, combined=combined)
    return Scores(None, None, parts[0].embedding, components, combined)
