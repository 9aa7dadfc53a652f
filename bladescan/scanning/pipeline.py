"""The pipeline of one process: sources, decode, faces, crops, backend, verdicts; records in source order.

It writes nothing and prints nothing: it yields records. What a row says depends on its image and on the
settings alone, never on the batch, the workers or the other files.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bladescan.base.closing import Closing
from bladescan.base.errors import ImageError
from bladescan.base.records import CROP_SIZE, FaceVerdict, ImageRecord, Scores, Verdict
from bladescan.detectors.manifest import HeadName, Subject
from bladescan.detectors.tile_scores import join_scores
from bladescan.faces.views import VIEWS
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import get_plugin, open_file
from bladescan.runtimes.several import SeveralDetectors, open_several
from bladescan.scanning.decoder_process import Decoded, DecoderSettings, Request
from bladescan.scanning.decoders import DecoderPool, decoder_pool
from bladescan.scanning.explainer import Explainer, SeenFace
from bladescan.scanning.explaining import Explaining, with_flips
from bladescan.scanning.judging import Judge, declares, judge_image
from bladescan.scanning.scoring import CropScores
from bladescan.scanning.stability import Stability
from bladescan.scanning.stalls import with_stalls
from bladescan.sources.fetching import FetchedBytes, Fetcher, PendingFetch, fetch_ahead
from bladescan.sources.source import Source


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """The detector of whole pictures beside that of faces: its file, backend, head and rate."""

    detector: Path
    backend: str
    head: HeadName
    false_alarm: float


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """All that decides what a row says, and how fast. Crosses processes.

    Attributes:
        detector: the detector file.
        backend: name of the plugin that runs it.
        false_alarm: a face is flagged when its p-value is at most this.
        batch_size: most crops in one model run.
        n_decoders: decoder processes in front of one backend.
        flags_declared: an image is flagged as well if its file says that it is AI-generated.
        stability: how sure a verdict must be; None for no look at views.
        explaining: which faces are explained; None for none.
        several: detectors that are combined, of which ``detector`` and ``backend`` are the first; None for
            one.
        image: what judges whole pictures beside faces; None where one subject is judged.
    """

    detector: Path
    backend: str
    head: HeadName
    false_alarm: float
    runtime: BackendSettings = BackendSettings()
    decoder: DecoderSettings = DecoderSettings()
    batch_size: int = 8
    n_decoders: int = 1
    flags_declared: bool = False
    stability: Stability | None = None
    explaining: Explaining | None = None
    several: SeveralDetectors | None = None
    image: ImageSettings | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of all detectors, that of whole pictures last."""
        main = (self.detector,) if self.several is None else self.several.files
        return main if self.image is None else (*main, self.image.detector)

    def with_files(self, files: Sequence[Path]) -> ScanSettings:
        """Return the same settings with the detectors at other places."""
        image = self.image and replace(self.image, detector=files[-1])
        main = tuple(files if image is None else files[:-1])
        several = self.several and replace(self.several, files=main)
        return replace(self, detector=main[0], several=several, image=image)

    @property
    def backends(self) -> tuple[str, ...]:
        """Names of the plugins that run them, each once."""
        main = (self.backend,) if self.several is None else self.several.plugins
        return tuple(dict.fromkeys(main if self.image is None else (*main, self.image.backend)))


class Part(NamedTuple):
    """A detector, and what it judges."""

    subject: Subject
    backend: Backend
    judge: Judge


class _Batch(NamedTuple):
    """Images whose faces are being scored.

    Attributes:
        items: in source order.
        scores: of all their crops, by the detectors of the pipeline.
    """

    items: list[tuple[Source, Decoded]]
    scores: list[CropScores]

    def done(self) -> bool:
        """Tell, without waiting, whether all scores are here."""
        return all([scores.done() for scores in self.scores])  # each starts further runs when asked


class Pipeline(Closing):
    """A detector and its decoders in this process.

    Args:
        settings: of the scan.
        backend: the detector, if it is loaded already; it is closed with the scanner.
        image_backend: that of ``settings.image``, likewise.

    Attributes:
        parts: the detectors, of faces before that of whole pictures.
    """

    def __init__(
        self, settings: ScanSettings, backend: Backend | None = None, image_backend: Backend | None = None
    ) -> None:
        self.settings = settings
        self._pool = decoder_pool(settings.n_decoders, settings.decoder)
        self.parts: list[Part] = []
        self._explainer: Explainer | None = None
        try:
            self._add(settings, backend)
            if settings.image is not None:
                self._add(settings.image, image_backend)
            self.ready = self._pool.start()
        except BaseException:
            self.close()
            raise

    def _add(self, part: ScanSettings | ImageSettings, backend: Backend | None) -> None:
        """Load one of the detectors, unless it is loaded."""
        if backend is None:
            backend = _opened(part, self.settings.runtime)
        manifest, head = backend.manifest, part.head
        judge = Judge(
            head,
            manifest.heads[head],
            part.false_alarm,
            self.settings.stability,
            manifest.combination if head == "combined" else None,
        )
        self.parts.append(Part(manifest.subject, backend, judge))
        if self.settings.explaining is not None and manifest.subject == "face":
            rule, batch_size = self.settings.decoder.face_rule, self.settings.batch_size
            self._explainer = Explainer(backend, head, rule, batch_size)

    @property
    def backend(self) -> Backend:
        """The detector, of faces if there are two."""
        return self.parts[0].backend

    @property
    def judge(self) -> Judge:
        """What judges by it."""
        return self.parts[0].judge

    def scan(self, sources: Iterable[Source]) -> Iterator[ImageRecord]:
        """Yield one record for each source, in order."""
        under_way: deque[_Batch] = deque()
        collected: list[tuple[Source, Decoded]] = []
        for item in decode_in_order(sources, self._pool, self.settings.batch_size):
            if item is not None:
                collected.append(item)
            if item is None or _is_full(collected, self.settings.batch_size):
                under_way.append(self._begin(collected))
                collected = []
            # While one batch is computed the next is decoded; rows go out as soon as they are known.
            while under_way and (item is None or len(under_way) > 1 or under_way[0].done()):
                yield from self._judge(under_way.popleft())
        under_way.append(self._begin(collected))
        for batch in under_way:
            yield from self._judge(batch)

    def close(self) -> None:
        """End the decoders and free the runtimes."""
        self._pool.close()
        for part in self.parts:
            part.backend.close()

    def _begin(self, items: list[tuple[Source, Decoded]]) -> _Batch:
        size = self.settings.batch_size
        crops = [crops_of(decoded.of(part.subject) for _, decoded in items) for part in self.parts]
        scores = [CropScores(part.backend, of, size) for part, of in zip(self.parts, crops, strict=True)]
        return _Batch(items, scores)

    def _judge(self, batch: _Batch) -> Iterator[ImageRecord]:
        faces: list[tuple[FaceVerdict, ...]] = [()] * len(batch.items)
        seconds = [0.0] * len(batch.items)
        for part, scores in zip(self.parts, batch.scores, strict=True):
            decoded = [one.of(part.subject) for _, one in batch.items]
            judged, spent = self._judged(part, decoded, scores)
            each = spent / max(1, sum(map(len, judged)))
            for index, found in enumerate(judged):
                faces[index] += found
                seconds[index] += each * len(found)
        for (source, one), found, score_s in zip(batch.items, faces, seconds, strict=True):
            yield self._record(source, one, found, score_s)

    def _judged(
        self, part: Part, images: list[Decoded], scores: CropScores
    ) -> tuple[list[tuple[FaceVerdict, ...]], float]:
        """Judge what one detector judges of some images; also the seconds that it took."""
        rows = _joined(part, scores.result(), [face.n_crops for one in images for face in one.faces])
        judged: list[tuple[FaceVerdict, ...]] = []
        start = 0
        for decoded in images:
            stop = start + len(decoded.faces)
            of = _rows(rows, start, stop)
            judged.append(() if of is None else part.judge.faces(decoded, of))
            start = stop
        judged, views_s = self._look_again(part, images, judged)
        judged, explain_s = self._explain(part, images, judged, rows)
        return judged, scores.seconds + views_s + explain_s

    def _look_again(
        self, part: Part, images: list[Decoded], judged: list[tuple[FaceVerdict, ...]]
    ) -> tuple[list[tuple[FaceVerdict, ...]], float]:
        """Judge the faces near the threshold by their views as well; also the seconds that it took."""
        near = [
            (image, index, decoded.views[index], decoded.faces[index].n_crops)
            for image, decoded in enumerate(images)
            for index, face in enumerate(judged[image])
            if decoded.views and decoded.views[index] and part.judge.looks_at(face)
        ]
        if not near:
            return judged, 0.0
        counts = [n_crops for *_, n_crops in near for _ in VIEWS]
        crops = as_crops(b"".join(views for _, _, views, _ in near), sum(counts))
        scored = CropScores(part.backend, crops, self.settings.batch_size)
        scores = _joined(part, scored.result(), counts)
        again = [list(faces) for faces in judged]
        for place, (image, index, *_) in enumerate(near):
            rows = _rows(scores, place * len(VIEWS), (place + 1) * len(VIEWS))
            assert rows is not None
            again[image][index] = part.judge.with_views(again[image][index], rows)
        return [tuple(faces) for faces in again], scored.seconds

    def _explain(
        self, part: Part, images: list[Decoded], judged: list[tuple[FaceVerdict, ...]], scores: Scores | None
    ) -> tuple[list[tuple[FaceVerdict, ...]], float]:
        """Explain the flagged faces one by one: their copies take megabytes; also the seconds it took."""
        explaining, started = self.settings.explaining, time.perf_counter()
        if self._explainer is None or explaining is None or scores is None or part.subject != "face":
            return judged, 0.0
        embeddings = iter(scores.embedding)  # of all faces, image after image
        explained = []
        for decoded, faces in zip(images, judged, strict=True):
            told = [
                self._explainer.explain(face, _seen(decoded, index, embedding))
                if explaining.looks_at(face)
                else face
                for index, (face, embedding) in enumerate(zip(faces, embeddings, strict=False))
            ]
            if explaining.highest is None:  # else the batch decides which are flagged
                told = [with_flips(face, self.settings.false_alarm) for face in told]
            explained.append(tuple(told))
        return explained, time.perf_counter() - started

    def _record(
        self, source: Source, decoded: Decoded, faces: tuple[FaceVerdict, ...], score_s: float
    ) -> ImageRecord:
        if source.known is not None:
            return source.known
        if decoded.reason is not None:
            return _unreadable(source, decoded)
        record = ImageRecord(
            source.name,
            Verdict.NO_FACE,
            format=decoded.format,
            width=decoded.width,
            height=decoded.height,
            n_frames=decoded.n_frames,
            faces=faces,
            provenance=decoded.provenance,
            cost=decoded.cost and replace(decoded.cost, score_s=score_s),
            sha256=decoded.sha256.hex(),
        )
        return judge_image(record, declares=self.settings.flags_declared and declares(decoded.provenance))


def _unreadable(source: Source, decoded: Decoded) -> ImageRecord:
    """Say why an image was not judged; what its file says is no verdict on what nobody could see."""
    return ImageRecord(
        source.name,
        Verdict.UNREADABLE,
        decoded.reason,
        decoded.detail,
        provenance=decoded.provenance,
        cost=decoded.cost,
        sha256=decoded.sha256.hex(),
    )


def decode_in_order(
    sources: Iterable[Source], pool: DecoderPool, ahead: int = 0
) -> Iterator[tuple[Source, Decoded] | None]:
    """Decode ahead by a bounded window, hand on in source order.

    Args:
        sources: in the order of the answer.
        pool: who decodes.
        ahead: images to have decoded while the caller is busy, beyond two for each process.

    Yields:
        ``(source, decoded)`` for every source, and None whenever the list of sources stalls and all
        that came before has been handed on.
    """
    waiting: deque[tuple[Source, Future[Decoded]]] = deque()
    with Fetcher(pool.settings.limits.max_bytes, pool.settings.timeout_s) as fetcher:
        for source, fetched in fetch_ahead(with_stalls(sources), fetcher):
            if source is not None:
                waiting.append((source, _submit(source, fetched, fetcher, pool)))
            while waiting and (source is None or len(waiting) > 2 * pool.n + ahead):
                first, future = waiting.popleft()
                yield first, future.result()
            if source is None:
                yield None
        for first, future in waiting:
            yield first, future.result()


def crops_of(decoded: Iterable[Decoded]) -> NDArray[np.uint8]:
    """Stack all crops of some images, uint8 ``[n, 224, 224, 3]``; ``[n, m, 224, 224, 3]`` cut in m ways."""
    images = list(decoded)
    n = sum(face.n_crops for image in images for face in image.faces)
    return as_crops(b"".join(image.crops for image in images), n)


def as_crops(pixels: bytes | bytearray, n: int) -> NDArray[np.uint8]:
    """View the pixels of n faces, or tiles, as crops, as `crops_of` stacks them."""
    crops = np.frombuffer(pixels, np.uint8).reshape(-1, CROP_SIZE, CROP_SIZE, 3)
    return crops if len(crops) == n else crops.reshape(n, -1, CROP_SIZE, CROP_SIZE, 3)


def _opened(part: ScanSettings | ImageSettings, runtime: BackendSettings) -> Backend:
    if isinstance(part, ScanSettings) and part.several is not None:
        return open_several(part.several, runtime)
    return open_file(get_plugin(part.backend), part.detector, runtime)


def _seen(decoded: Decoded, index: int, embedding: NDArray[np.float32]) -> SeenFace:
    views = decoded.views[index] if index < len(decoded.views) else b""
    size = decoded.width or 0, decoded.height or 0
    n_views = len(VIEWS) if views else 0
    crop = as_crops(decoded.crops, len(decoded.faces))[index]
    return SeenFace(crop, embedding, as_crops(views, n_views), size)


def _joined(part: Part, scores: Scores | None, counts: list[int]) -> Scores | None:
    return scores and join_scores(scores, counts, part.backend.manifest.picture_rule.join)


def _rows(scores: Scores | None, start: int, stop: int) -> Scores | None:
    if scores is None or start == stop:
        return None
    return Scores(*(None if part is None else part[start:stop] for part in scores))  # type: ignore[arg-type]


def _is_full(batch: list[tuple[Source, Decoded]], batch_size: int) -> bool:
    # Images without faces count too, else a folder of landscapes would never hand on a row.
    return sum(max(1, sum(face.n_crops for face in decoded.faces)) for _, decoded in batch) >= batch_size


def _submit(
    source: Source, fetched: PendingFetch | None, fetcher: Fetcher, pool: DecoderPool
) -> Future[Decoded]:
    if fetched is not None:
        return _decode_fetched(source, fetched, fetcher, pool)
    if source.problem is None and source.known is None:
        return pool.submit(Request(os.fsencode(source.name)))
    done: Future[Decoded] = Future()
    problem = source.problem
    done.set_result(Decoded() if problem is None else Decoded(reason=problem.reason, detail=problem.detail))
    return done


def _decode_fetched(
    source: Source, fetched: PendingFetch, fetcher: Fetcher, pool: DecoderPool
) -> Future[Decoded]:
    """Decode an object as soon as it is here; its bytes are let go when that is done."""
    answer: Future[Decoded] = Future()
    ticket = fetched.ticket  # alone: the answer waits for its turn, and must not keep the bytes that long
    answer.add_done_callback(lambda _: fetcher.release(ticket))

    def decode(body: Future[FetchedBytes]) -> None:
        try:
            data, fetch_s = body.result()
            decoding = pool.submit(Request(os.fsencode(source.name), data))
            decoding.add_done_callback(lambda decoded: _pass_on(decoded, fetch_s, answer))
        except ImageError as exc:
            answer.set_result(Decoded(reason=exc.reason, detail=exc.detail))
        except BaseException as exc:  # cancelled, or the pool is closed: whoever waits is told
            answer.set_exception(exc)

    fetched.body.add_done_callback(decode)
    return answer


def _pass_on(decoding: Future[Decoded], fetch_s: float, answer: Future[Decoded]) -> None:
    try:
        decoded = decoding.result()
        cost = decoded.cost and replace(decoded.cost, fetch_s=fetch_s)
        answer.set_result(msgspec.structs.replace(decoded, cost=cost))
    except BaseException as exc:
        answer.set_exception(exc)
