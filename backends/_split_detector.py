"""A detector whose encoder runs in one library and whose heads run in onnxruntime, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bladescan.base.errors import BackendError
from bladescan.base.records import Scores
from bladescan.runtimes.backend import Backend, check_crops

from ._checks import check_finite
from ._onnx_detector import OnnxHeads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bladescan.detectors.manifest import Manifest


class Encoder(Protocol):
    """Crops to embeddings, in whatever library."""

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed crops uint8 ``[n, size, size, 3]``, n >= 1, as ``[n, d]``."""

    def close(self) -> None:
        """Give everything back."""


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
        return check_finite(Scores(None, None, self._embed(crops)), self._name).embedding

    def score(self, crops: NDArray[np.uint8]) -> Scores:
        """Score crops, as `bladescan.runtimes.backend.Backend.score` promises."""
        return check_finite(self._heads.score(self._embed(crops)), self._name)

    def close(self) -> None:
        """Give encoder and memory back; closing twice is fine."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()

    def _embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        import numpy as np

        if self._encoder is None:
            raise BackendError(f"the {self._name} backend is closed")
        check_crops(crops, self.manifest.preprocessing.size)
        if not len(crops):
            return np.empty((0, self.manifest.encoder.embedding_dim), np.float32)
        return self._encoder.embed(crops)
