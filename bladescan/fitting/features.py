"""Folders of images to embeddings, by the decoding, face finding and cropping of a scan."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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
from bladescan.scanning.decoder_process import DecoderSettings
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
    parts: list[NDArray[np.float32]] = []
    copies: list[NDArray[np.float32]] = []
    rng = np.random.default_rng(seed)
    groups: list[str] = []
    skipped: Counter[str] = Counter()
    n_images = 0
    with decoder_pool(n_decoders, decoder) as pool:
        finder = pool.start().finder
        for source, decoded in with_faces(sources, pool, skipped, progress):
            n_images += 1
            crops = crops_of([decoded])
            parts.append(_embed(crops, backend, batch_size))
            copies += [_embed(degraded_copies(crops, rng), backend, batch_size) for _ in range(n_copies)]
            groups += [_group(source.name, group_by)] * len(decoded.faces)
    if not parts:
        raise DataError(f"no face in any image ({listed(skipped)})")
    embeddings = np.concatenate(parts)
    return Features(
        embeddings, _by_face(copies, parts, n_copies), np.asarray(groups), n_images, finder, dict(skipped)
    )


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


def _by_face(
    copies: list[NDArray[np.float32]], parts: list[NDArray[np.float32]], n_copies: int
) -> NDArray[np.float32]:
    """``n_copies`` arrays ``[n, d]`` for each image's ``[n, d]`` as one ``[n_faces, n_copies, d]``."""
    if not n_copies:
        return np.empty((sum(map(len, parts)), 0, parts[0].shape[1]), np.float32)
    stacked = [np.stack(copies[i : i + n_copies], 1) for i in range(0, len(copies), n_copies)]
    return np.concatenate(stacked)


def _embed(crops: NDArray[np.uint8], backend: Backend, batch_size: int) -> NDArray[np.float32]:
    return np.concatenate(
        [backend.embed(crops[i : i + batch_size]) for i in range(0, len(crops), batch_size)]
    )


def _group(name: str, group_by: str) -> str:
    return name if group_by == "file" else os.path.dirname(name)
