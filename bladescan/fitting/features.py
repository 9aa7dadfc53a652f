"""Folders of images to embeddings, by the decoding, face finding and cropping of a scan."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError, UsageError
from bladescan.base.output_files import write_file
from bladescan.base.records import Verdict
from bladescan.fitting.copies import Copy, CopyCount, Identity, SeenImages
from bladescan.fitting.degraded_copies import degraded_copies
from bladescan.fitting.embedding_file import EmbeddingFile, PictureEmbeddings
from bladescan.foreign.detector_graph import detector_graph
from bladescan.heads.detector import Detector, save_detector
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import choose_plugin, get_plugin
from bladescan.scanning.cut_faces import listed
from bladescan.scanning.decoder_process import Decoded, DecoderSettings
from bladescan.scanning.decoders import decoder_pool
from bladescan.scanning.pipeline import crops_of, decode_in_order
from bladescan.sources.source import Source

GROUPINGS = ("file", "folder")


@dataclass(frozen=True, slots=True)
class Features:
    """Embeddings of the faces of some images.

    Attributes:
        embeddings: float32 ``[n_faces, d]``.
        copies: of each face's degraded copies, float32 ``[n_faces, n_copies, d]``; n_copies may be 0.
        groups: ``[n_faces]``, one value for each face: faces that must not be split apart share it.
        folders: ``[n_faces]``, the folder of each face's file.
        files: ``[n_faces]``, the name of that file; of whole pictures all tiles of one have one.
        n_images: images with a face.
        finder: name of the face finder that cut them.
        skipped: images without a face, not readable, or copies of others, by reason.
        notices: lines for the user on copies.
    """

    embeddings: NDArray[np.float32]
    copies: NDArray[np.float32]
    groups: NDArray[np.str_]
    folders: NDArray[np.str_]
    files: NDArray[np.str_]
    n_images: int
    finder: str
    skipped: dict[str, int]
    notices: tuple[str, ...] = ()


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
    known: EmbeddingFile | None = None,
    seen: SeenImages | None = None,
    apart_from: SeenImages | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> Features:
    """Embed every face of every image that is no copy of another.

    Args:
        sources: the images.
        backend: a loaded detector or bare encoder.
        decoder: limits, face finder and crop rule.
        group_by: one of `GROUPINGS`.
        n_decoders: decoder processes.
        batch_size: crops in one model run.
        n_copies: degraded copies of each face to embed beside it.
        seed: of the copies.
        known: embeddings from before, to use and to add to; of the same encoder, decoder, copies and seed.
        seen: images that these may not be copies of; these are added.
        apart_from: images of another class, of which none may be here.
        progress: called with the number of images just done.

    Raises:
        DataError: no image had a face, or a file is one of another class as well.
    """
    decoder = msgspec.structs.replace(decoder, identify=True)
    listed_sources = list(sources)
    found = [None if known is None else known.find(source) for source in listed_sources]
    progress(sum(one is not None for one in found))
    new = [source for source, one in zip(listed_sources, found, strict=True) if one is None]
    embedder = _Embedder(backend, batch_size, n_copies, seed)
    embedded = _embedded(new, embedder, decoder, n_decoders, known, progress)
    features = _Joined(group_by, _Sieve(SeenImages() if seen is None else seen, apart_from))
    for source, one in zip(listed_sources, found, strict=True):
        features.add(source, one or next(embedded))
    return features.joined()


def _embedded(
    sources: Sequence[Source],
    embedder: _Embedder,
    decoder: DecoderSettings,
    n_decoders: int,
    known: EmbeddingFile | None,
    progress: Callable[[int], None],
) -> Iterator[PictureEmbeddings]:
    """Embed images in their order, and keep what was found."""
    if not sources:
        return
    with decoder_pool(n_decoders, decoder) as pool:
        finder = pool.start().finder
        for item in decode_in_order(sources, pool):
            if item is None:
                continue
            source, decoded = item
            reason = "" if decoded.faces else (decoded.reason or Verdict.NO_FACE).value
            identity = Identity(decoded.sha256, decoded.likeness)
            one = PictureEmbeddings(embedder.embed(decoded), finder, reason, identity)
            if known is not None:
                known.add(source, one)
            progress(1)
            yield one


class _Sieve:
    """Holds copies back, and counts images that belong to two classes."""

    def __init__(self, seen: SeenImages, apart_from: SeenImages | None) -> None:
        self._seen, self._apart_from = seen, apart_from
        self._copies, self._shared = CopyCount(), CopyCount()

    def copy_of(self, name: str, image: Identity) -> Copy | None:
        """Find what an image is a copy of; one that is none is remembered."""
        both = None if self._apart_from is None else self._apart_from.find(name, image)
        if both is not None:
            self._shared.add(both)
        copy = self._seen.find(name, image)
        if copy is None:
            self._seen.add(name, image)
        else:
            self._copies.add(copy)
        return copy

    def notices(self) -> tuple[str, ...]:
        """Say what was held back.

        Raises:
            DataError: a file is of two classes.
        """
        if self._shared.exact:
            raise DataError(
                "the same file cannot be a photograph and AI-generated; in both are "
                f"{self._shared.told()}: take them out of one"
            )
        said = [f"copies are left out: {self._copies.told()}"] if self._copies else []
        if self._shared:
            said.append(
                f"among both the photographs and the AI-generated images are {self._shared.told()}: "
                "if they are one picture, take it out of one"
            )
        return tuple(said)


class _Embedder:
    """Embeds the faces of one image, and degraded copies of them."""

    def __init__(self, backend: Backend, batch_size: int, n_copies: int, seed: int) -> None:
        self._backend, self._batch_size, self._n_copies, self._seed = backend, batch_size, n_copies, seed

    def embed(self, decoded: Decoded) -> NDArray[np.float32]:
        """Embed faces and copies, ``[n_faces, 1 + n_copies, d]``."""
        crops = crops_of([decoded])
        if not len(crops):
            return np.empty((0, 1 + self._n_copies, 0), np.float32)
        # Chance that hangs on the picture alone: its copies are the same whatever else is learned from.
        digest = int.from_bytes(hashlib.sha256(crops.tobytes()).digest()[:8])
        rng = np.random.default_rng([self._seed, digest])
        copies = [degraded_copies(crops, rng) for _ in range(self._n_copies)]
        return np.stack([self._rows(part) for part in (crops, *copies)], 1)

    def _rows(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        starts = range(0, len(crops), self._batch_size)
        return np.concatenate([self._backend.embed(crops[i : i + self._batch_size]) for i in starts])


class _Joined:
    """Collects what was found of one image after the other."""

    def __init__(self, group_by: str, sieve: _Sieve) -> None:
        self._group_by, self._sieve = group_by, sieve
        self._rows: list[NDArray[np.float32]] = []
        self._groups: list[str] = []
        self._folders: list[str] = []
        self._files: list[str] = []
        self._skipped: Counter[str] = Counter()
        self._finder = ""

    def add(self, source: Source, found: PictureEmbeddings) -> None:
        """Add one image."""
        self._finder = found.finder
        if found.reason:
            self._skipped[found.reason] += 1
            return
        if (copy := self._sieve.copy_of(source.name, found.identity)) is not None:
            self._skipped[copy.kind] += 1
            return
        self._rows.append(found.rows)
        self._groups += [_group(source.name, self._group_by)] * len(found.rows)
        self._files += [source.name] * len(found.rows)
        self._folders += [os.path.dirname(source.name)] * len(found.rows)

    def joined(self) -> Features:
        """Join them.

        Raises:
            DataError: no image had a face, or a file is of two classes.
        """
        notices = self._sieve.notices()
        if not self._rows:
            raise DataError(f"no face in any image ({listed(self._skipped)})")
        rows = np.concatenate(self._rows)
        return Features(
            rows[:, 0],
            copies=rows[:, 1:],
            groups=np.asarray(self._groups),
            folders=np.asarray(self._folders),
            files=np.asarray(self._files),
            n_images=len(self._rows),
            finder=self._finder,
            skipped=dict(self._skipped),
            notices=notices,
        )


def encoder_backend(detector: Detector, asked: str) -> str:
    """Name the backend that embeds: the one asked for, or for ``auto`` the first that opens the encoder."""
    if asked != "auto":
        return asked
    return choose_plugin("auto", Path("encoder.onnx" if detector.graph else "encoder.safetensors")).name


@contextmanager
def open_encoder(detector: Detector, backend: str, runtime: BackendSettings) -> Iterator[Backend]:
    """Load an encoder that is in memory into any backend, by a temporary file of the kind it opens."""
    plugin = get_plugin(backend)
    with tempfile.TemporaryDirectory(prefix="bladescan-") as folder:
        path = Path(folder) / f"encoder{plugin.suffixes[0]}"
        if detector.graph:
            if ".onnx" not in plugin.suffixes:
                raise UsageError(f"the {backend} backend runs no ONNX graph, and this encoder is one")
            write_file(path.with_suffix(".onnx"), detector_graph(detector))
            path = path.with_suffix(".onnx")
        elif ".safetensors" in plugin.suffixes:
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
