"""Folders of images to embeddings, by the decoding, face finding and cropping of a scan."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError
from bladescan.fitting.degraded_copies import degraded_copies
from bladescan.heads.detector import Detector, save_detector
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import get_plugin
from bladescan.scanning.cut_faces import listed, with_faces
from bladescan.scanning.decoder_process import Decoded, DecoderSettings
from bladescan.scanning.decoders import decoder_pool
from bladescan.scanning.pipeline import crops_of
from bladescan.sources.source import Source

GROUPINGS = ("file", "folder")


@dataclass(frozen=True, slots=True)
class Features:
    """Embeddings of the faces of some images.

    Attributes:
        embeddings: float32 ``[n_faces, d]``.
        copies: of each face's degraded copies, float32 ``[n_faces, n_copies, d]``; n_copies may be 0.
        groups: ``[n_faces]``, one value for each face: faces that must not be split apart share it.
        n_images: images with a face.
        finder: name of the face finder that cut them.
        skipped: images without a face or not readable, by reason.
    """

    embeddings: NDArray[np.float32]
    copies: NDArray[np.float32]
    groups: NDArray[np.str_]
    n_images: int
    finder: str
    skipped: dict[str, int]


def embed_images(
    sources: Iterable[Source],
    backend: Backend,
    decoder: DecoderSettings,
    *,
    group_by: str = "file",
    n_decoders: int = 1,
    batch_size: int = 16,
    n_copies: int = 0,
    seed: int = 0,
    progress: Callable[[int], None] = lambda n: None,
) -> Features:
    """Embed every face of every image.

    Args:
        sources: the images.
        backend: a loaded detector or bare encoder.
        decoder: limits, face finder and crop rule.
        group_by: one of `GROUPINGS`.
        n_decoders: decoder processes.
        batch_size: crops in one model run.
        n_copies: degraded copies of each face to embed beside it.
        seed: of the copies.
        progress: called with the number of images just done.

    Raises:
        DataError: no image had a face.
    """
    embedder = _Embedder(backend, batch_size, n_copies, np.random.default_rng(seed))
    skipped: Counter[str] = Counter()
    with decoder_pool(n_decoders, decoder) as pool:
        finder = pool.start().finder
        for source, decoded in with_faces(sources, pool, skipped, progress):
            embedder.add(decoded, _group(source.name, group_by))
    return embedder.features(finder, skipped)


class _Embedder:
    """Embeds the faces of one image after the other, and degraded copies of them."""

    def __init__(self, backend: Backend, batch_size: int, n_copies: int, rng: np.random.Generator) -> None:
        self._backend, self._batch_size, self._n_copies, self._rng = backend, batch_size, n_copies, rng
        self._embeddings: list[NDArray[np.float32]] = []
        self._copies: list[NDArray[np.float32]] = []
        self._groups: list[str] = []

    def add(self, decoded: Decoded, group: str) -> None:
        """Embed the faces of one image."""
        crops = crops_of([decoded])
        self._embeddings.append(self._embed(crops))
        copies = [self._embed(degraded_copies(crops, self._rng)) for _ in range(self._n_copies)]
        if copies:
            self._copies.append(np.stack(copies, 1))
        self._groups += [group] * len(crops)

    def features(self, finder: str, skipped: Mapping[str, int]) -> Features:
        """Join what was embedded.

        Raises:
            DataError: no image had a face.
        """
        if not self._embeddings:
            raise DataError(f"no face in any image ({listed(skipped)})")
        embeddings = np.concatenate(self._embeddings)
        no_copies = np.empty((len(embeddings), 0, embeddings.shape[1]), np.float32)
        return Features(
            embeddings,
            copies=np.concatenate(self._copies) if self._copies else no_copies,
            groups=np.asarray(self._groups),
            n_images=len(self._embeddings),
            finder=finder,
            skipped=dict(skipped),
        )

    def _embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        starts = range(0, len(crops), self._batch_size)
        return np.concatenate([self._backend.embed(crops[i : i + self._batch_size]) for i in starts])


@contextmanager
def open_encoder(detector: Detector, backend: str, runtime: BackendSettings) -> Iterator[Backend]:
    """Load an encoder that is in memory into any backend, by a temporary file of the kind it opens."""
    plugin = get_plugin(backend)
    with tempfile.TemporaryDirectory(prefix="bladescan-") as folder:
        path = Path(folder) / f"encoder{plugin.suffixes[0]}"
        if ".safetensors" in plugin.suffixes:
            path = path.with_suffix(".safetensors")
            save_detector(detector, path)
        else:
            from bladescan.exporting.onnx import export_onnx

            export_onnx(detector, path)
        opened = plugin.open(path, runtime)
        try:
            yield opened
        finally:
            opened.close()


def _group(name: str, group_by: str) -> str:
    return name if group_by == "file" else os.path.dirname(name)
