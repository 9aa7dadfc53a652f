r"""How near an embedding is to the photographs of a calibration, by sketches of 32 bytes each.

A sketch is the signs of 256 random projections of an embedding. Of two embeddings at an angle each sign
differs with the probability angle / 180 degrees, so h signs that differ say

.. math:: \theta \approx 180 \, h / 256

with a standard error of 5.6 degrees or less. A picture cannot be made of a sketch, nor the embedding.

References:
    Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DetectorError
from bladescan.detectors.manifest import Neighbours

N_BITS = 256
MOST = 4096
"""Photographs of which a manifest keeps a sketch: 170 kB."""
_BYTES = N_BITS // 8
_ROWS = 64
"""Photographs that are compared with all others at once."""


def sketch(embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Sketch embeddings ``[n, d]`` of any length above 0.

    Returns:
        uint8 ``[n, N_BITS / 8]``.
    """
    projected = embeddings.astype(np.float64) @ _signs(embeddings.shape[1])
    return np.packbits(projected > 0.0, axis=1)


def make_neighbours(embeddings: NDArray[np.float32]) -> Neighbours | None:
    """Keep sketches of photographs, of more than `MOST` every so manieth.

    Args:
        embeddings: of the photographs, ``[n, d]``, n at least 1.

    Returns:
        None for embeddings of one number, between which there is no angle.
    """
    if embeddings.shape[1] == 1:
        return None
    chosen = np.unique(np.linspace(0, len(embeddings) - 1, min(len(embeddings), MOST)).astype(np.intp))
    sketches = sketch(embeddings[chosen])
    return Neighbours(n=len(sketches), sketches=base64.b64encode(sketches.tobytes()).decode())


class Neighbourhood:
    """The photographs of a calibration, to ask how near others are.

    Args:
        kept: of the manifest.
        where: the detector's name, for the error.

    Attributes:
        own: angle of each photograph to the nearest of the others in degrees, ascending, ``[n]``.

    Raises:
        DetectorError: the sketches are none.
    """

    def __init__(self, kept: Neighbours, *, where: str) -> None:
        self._sketches = _decoded(kept, where)
        self.own: NDArray[np.float64] = np.sort(np.concatenate(list(self._nearest_others())))

    def nearest(self, embedding: NDArray[np.float32], k: int) -> NDArray[np.float64]:
        """Measure the angles in degrees from an embedding ``[d]`` to its ``k`` nearest photographs."""
        angles = _angles(sketch(embedding[None]), self._sketches)[0]
        return np.sort(angles)[:k]

    def n_as_far(self, angle: float) -> int:
        """Count the photographs that are as far from the nearest of the others, or farther."""
        return len(self.own) - int(np.searchsorted(self.own, angle, side="left"))

    def _nearest_others(self) -> Iterator[NDArray[np.float64]]:
        n = len(self._sketches)
        for start in range(0, n, _ROWS):
            angles = _angles(self._sketches[start : start + _ROWS], self._sketches)
            angles[np.arange(len(angles)), start + np.arange(len(angles))] = np.inf  # itself
            yield angles.min(1) if n > 1 else np.full(1, 180.0)


def _angles(some: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    differ = _BITS_SET[some[:, None] ^ others].sum(2, dtype=np.int64)
    return np.asarray(differ * (180.0 / N_BITS), np.float64)


_BITS_SET = np.array([value.bit_count() for value in range(256)], np.uint8)


def _decoded(kept: Neighbours, where: str) -> NDArray[np.uint8]:
    try:
        data = base64.b64decode(kept.sketches, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise DetectorError(f"{where}: the sketches of its photographs are not base64") from exc
    if not 0 < kept.n <= MOST or len(data) != kept.n * _BYTES:
        raise DetectorError(
            f"{where}: {len(data)} bytes are no {kept.n} sketches: expected 1 to {MOST} of {_BYTES} bytes"
        )
    return np.frombuffer(data, np.uint8).reshape(kept.n, _BYTES)


@cache
def _signs(d: int) -> NDArray[np.float64]:
    """Draw the projections, ``[d, N_BITS]`` of 1 and -1: the same on every machine, for ever."""
    bits = hashlib.shake_256(b"bladescan neighbours").digest(d * _BYTES)
    drawn = np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(d, N_BITS)
    return np.asarray(drawn * 2.0 - 1.0, np.float64)
