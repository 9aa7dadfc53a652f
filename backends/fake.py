"""A backend without a model, for tests of scans and plugins: scores from pixel statistics.

It is not registered, and its scores mean nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import BackendError
from bladescan.base.records import Scores
from bladescan.detectors.manifest import CalibratedHead, EncoderSpec, Manifest
from bladescan.runtimes.backend import Backend, check_crops

_GRID = 16


def fake_manifest() -> Manifest:
    """Make a manifest with both heads, each calibrated on 99 evenly spaced scores."""
    return Manifest(
        name="fake",
        encoder=EncoderSpec("none", width=1, embedding_dim=3 * _GRID * _GRID),
        heads={
            "one-class": CalibratedHead(tuple(float(x) for x in np.linspace(0.0, 98.0, 99)), 99),
            "binary": CalibratedHead(tuple(float(x) for x in np.linspace(-0.98, 0.0, 99)), 99),
        },
        default_head="one-class",
    )


class FakeBackend(Backend):
    """Deterministic scores: the embedding is the mean colour of a 16x16 grid of blocks.

    Log-likelihood is the standard deviation of the crop's pixels, in grey levels, so a flat crop is the
    least photographic; P(AI-generated) is their mean over 255.

    Args:
        manifest: any with a 768-dimensional embedding; `fake_manifest` by default.
    """

    def __init__(self, manifest: Manifest | None = None) -> None:
        self.device = "cpu"
        self.manifest = fake_manifest() if manifest is None else manifest
        self._closed = False

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed crops, as `bladescan.runtimes.backend.Backend.embed` promises."""
        self._check(crops)
        n, side = len(crops), crops.shape[1] // _GRID
        blocks = crops.reshape(n, _GRID, side, _GRID, side, 3).mean((2, 4))
        flat = blocks.reshape(n, 3 * _GRID * _GRID) + 1.0  # a black crop has a direction too
        unit: NDArray[np.float32] = (flat / np.linalg.norm(flat, axis=1, keepdims=True)).astype(np.float32)
        return unit

    def score(self, crops: NDArray[np.uint8]) -> Scores:
        """Score crops, as `bladescan.runtimes.backend.Backend.score` promises."""
        embedding = self.embed(crops)
        pixels = crops.reshape(len(crops), crops[0].size if len(crops) else 0).astype(np.float64)
        if not len(crops):
            return Scores(np.empty(0), np.empty(0), embedding)
        return Scores(pixels.std(1), pixels.mean(1) / 255, embedding)

    def close(self) -> None:
        """Refuse further crops; closing twice is fine."""
        self._closed = True

    def _check(self, crops: NDArray[np.uint8]) -> None:
        if self._closed:
            raise BackendError("the fake backend is closed")
        check_crops(crops)
