"""A detector whose encoder runs in one library and whose heads run in onnxruntime, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bladescan.base.errors import BackendError
from bladescan.base.records import Scores
from bladescan.runtimes.backend import Backend, PendingScores, check_crops

from ._checks import check_finite
from ._onnx_detector import OnnxHeads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bladescan.detectors.manifest import Manifest


class PendingEmbedding(Protocol):
    """Embeddings of one `Encoder.begin`, perhaps still being computed."""

    def done(self) -> bool:
        """Tell, without waiting, whether `result` would return at once."""

    def result(self) -> NDArray[np.float32]:
        """Wait for the embeddings ``[n, d]``; asked again, it returns the same.

        Raises:
            BackendError: the library failed.
        """


class ReadyEmbedding:
    """Embeddings that need no waiting."""

    def __init__(self, embedding: NDArray[np.float32]) -> None:
        self._embedding = embedding

    def done(self) -> bool:
        """Say yes."""
        return True

    def result(self) -> NDArray[np.float32]:
        """Return the embeddings."""
        return self._embedding


class Encoder(Protocol):
    """Crops to embeddings, in whatever library."""

    def begin(self, crops: NDArray[np.uint8]) -> PendingEmbedding:
        """Begin to embed crops uint8 ``[n, size, size, 3]``, n >= 1, which may be overwritten on return.

        Raises:
            BackendError: the library failed, here or when the result is asked for.
        """

    def close(self) -> None:
        """Give everything back; what was not asked for is lost."""


class SplitBackend(Backend):
    """An encoder in one library, and the heads of its detector.

    Args:
        name: of the backend, for errors.
        encoder, heads: the two parts.
        manifest: of the detector.
        device: where the encoder runs.
    """

    def __init__(
        self, name: str, encoder: Encoder, heads: OnnxHeads, manifest: Manifest, device: str
    ) -> None:
        self.device, self.manifest = device, manifest
        self._name, self._heads = name, heads
        self._encoder: Encoder | None = encoder

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed crops, as `bladescan.runtimes.backend.Backend.embed` promises."""
        embedding = self._begin(crops).result()
        return check_finite(Scores(None, None, embedding), self._name).embedding

    def score(self, crops: NDArray[np.uint8]) -> Scores:
        """Score crops, as `bladescan.runtimes.backend.Backend.score` promises."""
        return self.submit(crops).result()

    def submit(self, crops: NDArray[np.uint8]) -> PendingScores:
        """Begin to score: the heads, on the CPU, take their turn when the result is asked for.

        As `bladescan.runtimes.backend.Backend.submit` promises.
        """
        return _Scoring(self._begin(crops), self._heads, self._name)

    def close(self) -> None:
        """Give encoder and memory back; closing twice is fine."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()

    def _begin(self, crops: NDArray[np.uint8]) -> PendingEmbedding:
        import numpy as np

        if self._encoder is None:
            raise BackendError(f"the {self._name} backend is closed")
        check_crops(crops, self.manifest.preprocessing.size)
        if not len(crops):
            return ReadyEmbedding(np.empty((0, self.manifest.encoder.embedding_dim), np.float32))
        return self._encoder.begin(crops)


class _Scoring:
    """Scores of embeddings that may be under way."""

    def __init__(self, embedding: PendingEmbedding, heads: OnnxHeads, name: str) -> None:
        self._embedding, self._heads, self._name = embedding, heads, name
        self._scores: Scores | None = None

    def done(self) -> bool:
        """Tell, as `bladescan.runtimes.backend.PendingScores.done` promises."""
        return self._embedding.done()

    def result(self) -> Scores:
        """Wait, as `bladescan.runtimes.backend.PendingScores.result` promises."""
        if self._scores is None:
            self._scores = check_finite(self._heads.score(self._embedding.result()), self._name)
        return self._scores
