"""The pipeline of one process: sources, decode, faces, crops, backend, verdicts; records in source order.

It writes nothing and prints nothing: it yields records. What a row says depends on its image and on the
settings alone, never on the batch, the workers or the other files.
"""

from __future__ import annotations

import os
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
from bladescan.detectors.manifest import HeadName
from bladescan.faces.views import VIEWS
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import get_plugin, open_file
from bladescan.runtimes.several import SeveralDetectors, open_several
from bladescan.scanning.decoder_process import Decoded, DecoderSettings, Request
from bladescan.scanning.decoders import DecoderPool, decoder_pool
from bladescan.scanning.explainer import Explainer, SeenFace
from bladescan.scanning.explaining import Explaining, with_flips
from bladescan.scanning.judging import Judge, combined_components, declares, judge_image
from bladescan.scanning.scoring import CropScores
from bladescan.scanning.stability import Stability
from bladescan.scanning.stalls import with_stalls
from bladescan.sources.fetching import FetchedBytes, Fetcher, PendingFetch, fetch_ahead
from bladescan.sources.source import Source


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

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of all detectors."""
        return (self.detector,) if self.several is None else self.several.files

    def with_files(self, files: Sequence[Path]) -> ScanSettings:
        """Return the same settings with the detectors at other places."""
        several = self.several and replace(self.several, files=tuple(files))
        return replace(self, detector=files[0], several=several)

    @property
    def backends(self) -> tuple[str, ...]:
        """Names of the plugins that run them, each once."""
        return tuple(dict.fromkeys((self.backend,) if self.several is None else self.several.plugins))


class _Batch(NamedTuple):
    """Images whose faces are being scored.

    Attributes:
        items: in source order.
        scores: of all their faces.
    """

    items: list[tuple[Source, Decoded]]
    scores: CropScores


class Pipeline(Closing):
    """A detector and its decoders in this process.

    Args:
        settings: of the scan.
        backend: the detector, if it is loaded already; it is closed with the scanner.
    """

    def __init__(self, settings: ScanSettings, backend: Backend | None = None) -> None:
        self.settings = settings
        if backend is None:
            backend = _opened(settings)
        self.backend = backend
        self._pool = decoder_pool(settings.n_decoders, settings.decoder)
        try:
            self.ready = self._pool.start()
        except BaseException:
            self._pool.close()
            raise
        manifest, head = self.backend.manifest, settings.head
        self.judge = Judge(
            head,
            manifest.heads[head],
            settings.false_alarm,
            settings.stability,
            combined_components(manifest, head),
        )

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
            while under_way and (item is None or len(under_way) > 1 or under_way[0].scores.done()):
                yield from self._judge(under_way.popleft())
        under_way.append(self._begin(collected))
        for batch in under_way:
            yield from self._judge(batch)

    def close(self) -> None:
        """End the decoders and free the runtime."""
        self._pool.close()
        self.backend.close()

    def _begin(self, items: list[tuple[Source, Decoded]]) -> _Batch:
        crops = crops_of(decoded for _, decoded in items)
        return _Batch(items, CropScores(self.backend, crops, self.settings.batch_size))

    def _judge(self, batch: _Batch) -> Iterator[ImageRecord]:
        scores = batch.scores.result()
        judged: list[tuple[FaceVerdict, ...]] = []
        start = 0
        for _, decoded in batch.items:
            stop = start + len(decoded.faces)
            rows = _rows(scores, start, stop)
            judged.append(() if rows is None else self.judge.faces(decoded, rows))
            start = stop
        judged, views_s = self._look_again(batch, judged)
        judged, explain_s = self._explain(batch, judged)
        face_s = (batch.scores.seconds + views_s + explain_s) / max(1, start)
        for (source, decoded), faces in zip(batch.items, judged, strict=True):
            yield self._record(source, decoded, faces, face_s * len(faces))

    def _look_again(
        self, batch: _Batch, judged: list[tuple[FaceVerdict, ...]]
    ) -> tuple[list[tuple[FaceVerdict, ...]], float]:
        """Judge the faces near the threshold by their views as well; also the seconds that it took."""
        near = [
            (image, index, decoded.views[index])
            for image, (_, decoded) in enumerate(batch.items)
            for index, face in enumerate(judged[image][: len(decoded.views)])
            if self.judge.looks_at(face)
        ]
        if not near:
            return judged, 0.0
        n_views = len(VIEWS)
        crops = as_crops(b"".join(views for *_, views in near), len(near) * n_views)
        scored = CropScores(self.backend, crops, self.settings.batch_size)
        scores = scored.result()
        again = [list(faces) for faces in judged]
        for place, (image, index, _) in enumerate(near):
            rows = _rows(scores, place * n_views, (place + 1) * n_views)
            assert rows is not None
            again[image][index] = self.judge.with_views(again[image][index], rows)
        return [tuple(faces) for faces in again], scored.seconds

    def _explain(
        self, batch: _Batch, judged: list[tuple[FaceVerdict, ...]]
    ) -> tuple[list[tuple[FaceVerdict, ...]], float]:
        """Explain the flagged faces one by one: their copies take megabytes; also the seconds it took."""
        settings = self.settings
        if settings.explaining is None:
            return judged, 0.0
        rule = settings.decoder.face_rule
        explainer = Explainer(self.backend, self.judge.head, rule, settings.batch_size)
        explained = [
            tuple(
                explainer.explain(face, _seen(decoded, index)) if settings.explaining.looks_at(face) else face
                for index, face in enumerate(faces)
            )
            for (_, decoded), faces in zip(batch.items, judged, strict=True)
        ]
        if settings.explaining.highest is None:  # else the batch decides which are flagged
            rate = settings.false_alarm
            explained = [tuple(with_flips(face, rate) for face in faces) for faces in explained]
        return explained, explainer.seconds

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
    return as_crops(b"".join(image.crops for image in images), sum(len(image.faces) for image in images))


def as_crops(pixels: bytes | bytearray, n: int) -> NDArray[np.uint8]:
    """View the pixels of n faces as crops, as `crops_of` stacks them."""
    crops = np.frombuffer(pixels, np.uint8).reshape(-1, CROP_SIZE, CROP_SIZE, 3)
    return crops if len(crops) == n else crops.reshape(n, -1, CROP_SIZE, CROP_SIZE, 3)


def _opened(settings: ScanSettings) -> Backend:
    if settings.several is not None:
        return open_several(settings.several, settings.runtime)
    return open_file(get_plugin(settings.backend), settings.detector, settings.runtime)


def _seen(decoded: Decoded, index: int) -> SeenFace:
    views = decoded.views[index] if index < len(decoded.views) else b""
    size = decoded.width or 0, decoded.height or 0
    n_views = len(VIEWS) if views else 0
    return SeenFace(as_crops(decoded.crops, len(decoded.faces))[index], as_crops(views, n_views), size)


def _rows(scores: Scores | None, start: int, stop: int) -> Scores | None:
    if scores is None or start == stop:
        return None
    return Scores(*(None if part is None else part[start:stop] for part in scores))  # type: ignore[arg-type]


def _is_full(batch: list[tuple[Source, Decoded]], batch_size: int) -> bool:
    # Images without faces count too, else a folder of landscapes would never hand on a row.
    return sum(max(1, len(decoded.faces)) for _, decoded in batch) >= batch_size


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
