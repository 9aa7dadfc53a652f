"""The ``cascade`` backend: two detectors as one, the second for what the first does not clear.

Each part is opened by the backend that opens its kind of file. Importing this module imports no runtime.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bladescan.base.errors import BackendError, UsageError
from bladescan.base.records import Scores
from bladescan.detectors.cascade import SUFFIX, Cascade, CascadeRule, check_alike, part_files, read_cascade
from bladescan.runtimes.backend import Backend, BackendSettings, BackendStatus, PendingScores
from bladescan.runtimes.registry import choose_plugin

from ._checks import check_finite
from .onnx import plugin as onnx

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CascadeBackend(Backend):
    """Two loaded detectors and the rule that joins their scores.

    Args:
        cascade: what the file says.
        first: sees every crop.
        second: sees those that the first does not clear.
    """

    def __init__(self, cascade: Cascade, first: Backend, second: Backend) -> None:
        self.device, self.manifest = first.device, cascade.manifest
        self._rule = cascade.rule
        self._parts: tuple[Backend, Backend] | None = (first, second)

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed crops by the first part, as `bladescan.runtimes.backend.Backend.embed` promises."""
        return self._open_parts()[0].embed(crops)

    def score(self, crops: NDArray[np.uint8]) -> Scores:
        """Score crops, as `bladescan.runtimes.backend.Backend.score` promises."""
        return self.submit(crops).result()

    def submit(self, crops: NDArray[np.uint8]) -> PendingScores:
        """Begin to score by the first part, as `bladescan.runtimes.backend.Backend.submit` promises.

        The second begins when somebody asks and the first is there; at once where that computes at once.
        """
        first, second = self._open_parts()
        seen = first.submit(crops)
        # Crops are kept for the second part only where the caller may overwrite them before its turn.
        return _CascadeScores(self._rule, seen, second, crops if seen.done() else crops.copy())

    def close(self) -> None:
        """Free both parts; closing twice is fine."""
        parts, self._parts = self._parts, None
        for part in parts or ():
            part.close()

    def _open_parts(self) -> tuple[Backend, Backend]:
        if self._parts is None:
            raise BackendError("the cascade backend is closed")
        return self._parts


class _CascadeScores:
    """Scores of the first part, then of the second for what the first does not clear."""

    def __init__(
        self, rule: CascadeRule, seen: PendingScores, second: Backend, crops: NDArray[np.uint8]
    ) -> None:
        self._rule, self._seen, self._second = rule, seen, second
        self._crops: NDArray[np.uint8] | None = crops
        self._rest: PendingScores | None = None
        self._scores: Scores | None = None
        if seen.done():
            self._begin_rest()

    def done(self) -> bool:
        """Tell, as `bladescan.runtimes.backend.PendingScores.done` promises."""
        if not self._seen.done():
            return False
        try:
            self._begin_rest()
        except BackendError:
            return True  # and the result is that error
        return self._rest is None or self._rest.done()

    def result(self) -> Scores:
        """Wait, as `bladescan.runtimes.backend.PendingScores.result` promises."""
        if self._scores is None:
            self._begin_rest()
            seen = self._seen.result()
            p = _probabilities(seen)
            rest = p[:0] if self._rest is None else _probabilities(self._rest.result())
            joined = self._rule.joined(p, rest)
            self._scores = check_finite(Scores(None, joined, seen.embedding), "cascade")
        return self._scores

    def _begin_rest(self) -> None:
        """Hand the second part what the first does not clear, once."""
        if self._crops is None:
            return
        on = self._rule.goes_on(_probabilities(self._seen.result()))
        if on.any():
            self._rest = self._second.submit(self._crops[on])
        self._crops = None


def _probabilities(scores: Scores) -> NDArray[np.float64]:
    assert scores.p_ai_generated is not None  # both parts were checked to have the head
    return scores.p_ai_generated


class CascadePlugin:
    """Opens ``.cascade`` files, whose parts are other detectors."""

    name = "cascade"
    suffixes: tuple[str, ...] = (SUFFIX,)

    def status(self) -> BackendStatus:
        """Report the runtime of exported parts, as `runtimes.backend.BackendPlugin.status` promises."""
        return onnx.status()

    def open(self, path: Path, settings: BackendSettings) -> CascadeBackend:
        """Load both parts, as `bladescan.runtimes.backend.BackendPlugin.open` promises."""
        if settings.precision != "fp32":
            raise UsageError(
                f"a cascade computes in its files' own precision, not {settings.precision!r}: use "
                "--precision fp32, or one of its parts alone with a backend that can"
            )
        cascade = read_cascade(path)
        opened: list[Backend] = []
        try:
            for part in part_files(path, cascade):
                opened.append(choose_plugin("auto", part).open(part, settings))
            first, second = opened
            check_alike(first.manifest, second.manifest, where=path.name)
            check_alike(first.manifest, cascade.manifest, where=path.name)
        except BaseException:
            for backend in opened:
                backend.close()
            raise
        return CascadeBackend(cascade, first, second)


plugin = CascadePlugin()
