"""The pipeline: sources, decode, faces, crops, backend, verdicts. One process or many; rows in source order.

It writes nothing and prints nothing: it yields records. What a row says depends on its image and on the
settings alone, never on the batch, the workers or the other files.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import resource_tracker
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import BackendError, ImageError, UsageError
from bladescan.base.records import CROP_SIZE, FaceVerdict, ImageRecord, Scores, Verdict
from bladescan.detectors.calibration import p_values, photographic_scores
from bladescan.detectors.manifest import Head, HeadName, Manifest
from bladescan.processes.lifetime import end_with, sigint_blocked
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import get_plugin
from bladescan.scanning.decoder_process import Decoded, DecoderSettings, Request
from bladescan.scanning.decoders import DecoderPool, decoder_pool
from bladescan.sources.fetching import Body, Fetched, Fetcher, fetch_ahead
from bladescan.sources.source import Source

STALL_S = 0.1
"""When no new source comes for so long, what is decoded is scored and handed on."""
LARGEST_CHUNK = 32
WORKER_DEATHS = 3
"""A worker pool that dies so often without finishing one chunk is given up."""


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """All that decides what a row says, and how fast. Crosses processes.

    Attributes:
        detector: the detector file.
        backend: name of the plugin that runs it.
        false_alarm: a face is flagged when its p-value is at most this.
        batch_size: most crops in one model run.
        n_decoders: decoder processes in front of one backend.
    """

    detector: Path
    backend: str
    head: HeadName
    false_alarm: float
    runtime: BackendSettings = BackendSettings()
    decoder: DecoderSettings = DecoderSettings()
    batch_size: int = 8
    n_decoders: int = 1


def choose_head(manifest: Manifest, asked: str) -> HeadName:
    """The head asked for, or for ``auto`` the detector's own default.

    Raises:
        UsageError: the detector does not have it.
    """
    for name in manifest.heads:
        if asked == name or (asked == "auto" and name == manifest.default_head):
            return name
    have = ", ".join(manifest.heads) or "none (a bare encoder: run bladescan fit)"
    raise UsageError(f"the detector {manifest.name!r} has no {asked} head. Available: {have}.")


def judge_faces(
    decoded: Decoded, scores: Scores, calibration: Head, head: HeadName, false_alarm: float
) -> tuple[FaceVerdict, ...]:
    """Verdicts on the faces of one image; ``scores`` holds their rows only."""
    ranks = p_values(calibration, photographic_scores(scores, head))
    return tuple(
        FaceVerdict(
            frame=face.frame,
            box=face.box,
            log_likelihood=_item(scores.log_likelihood, index),
            p_ai_generated=_item(scores.p_ai_generated, index),
            p_value=float(ranks[index]),
            verdict=_verdict(float(ranks[index]), false_alarm),
        )
        for index, face in enumerate(decoded.faces)
    )


def image_verdict(faces: Sequence[FaceVerdict]) -> Verdict:
    """AI-generated if any face is, no-face if there is none."""
    if not faces:
        return Verdict.NO_FACE
    flagged = any(face.verdict is Verdict.AI_GENERATED for face in faces)
    return Verdict.AI_GENERATED if flagged else Verdict.PHOTOGRAPHIC


def judge_again(record: ImageRecord, threshold: float) -> ImageRecord:
    """The same record with faces flagged at p-values up to another threshold."""
    if not record.faces:
        return record
    faces = tuple(replace(face, verdict=_verdict(face.p_value, threshold)) for face in record.faces)
    return replace(record, faces=faces, verdict=image_verdict(faces))


def _verdict(p_value: float, threshold: float) -> Verdict:
    return Verdict.AI_GENERATED if p_value <= threshold else Verdict.PHOTOGRAPHIC


def _item(values: NDArray[np.float64] | None, index: int) -> float | None:
    return None if values is None else float(values[index])


class Scanner:
    """A detector and its decoders in this process.

    Args:
        settings: of the scan.
        backend: the detector, if it is loaded already; it is closed with the scanner.
    """

    def __init__(self, settings: ScanSettings, backend: Backend | None = None) -> None:
        self.settings = settings
        if backend is None:
            backend = get_plugin(settings.backend).open(settings.detector, settings.runtime)
        self.backend = backend
        self._pool = decoder_pool(settings.n_decoders, settings.decoder)
        try:
            self.ready = self._pool.start()
        except BaseException:
            self._pool.close()
            raise
        self._calibration = self.backend.manifest.heads[settings.head]

    def scan(self, sources: Iterable[Source]) -> Iterator[ImageRecord]:
        """One record for each source, in order."""
        batch: list[tuple[Source, Decoded]] = []
        for item in decode_in_order(sources, self._pool, self.settings.batch_size):
            if item is not None:
                batch.append(item)
            if item is None or _is_full(batch, self.settings.batch_size):
                yield from self._judge(batch)
                batch = []
        yield from self._judge(batch)

    def close(self) -> None:
        """End the decoders and free the runtime."""
        self._pool.close()
        self.backend.close()

    def _judge(self, batch: list[tuple[Source, Decoded]]) -> Iterator[ImageRecord]:
        started = time.perf_counter()
        scores = score_in_batches(self.backend, crops_of([d for _, d in batch]), self.settings.batch_size)
        n_faces = sum(len(decoded.faces) for _, decoded in batch)
        face_s = (time.perf_counter() - started) / max(1, n_faces)
        start = 0
        for source, decoded in batch:
            stop = start + len(decoded.faces)
            yield self._record(source, decoded, _rows(scores, start, stop), face_s * len(decoded.faces))
            start = stop

    def _record(self, source: Source, decoded: Decoded, scores: Scores | None, score_s: float) -> ImageRecord:
        if source.known is not None:
            return source.known
        if decoded.reason is not None:
            verdict = Verdict.UNREADABLE
            return ImageRecord(source.name, verdict, decoded.reason, decoded.detail, cost=decoded.cost)
        faces: tuple[FaceVerdict, ...] = ()
        if scores is not None:
            settings = self.settings
            faces = judge_faces(decoded, scores, self._calibration, settings.head, settings.false_alarm)
        return ImageRecord(
            source.name,
            image_verdict(faces),
            format=decoded.format,
            width=decoded.width,
            height=decoded.height,
            n_frames=decoded.n_frames,
            faces=faces,
            cost=decoded.cost and replace(decoded.cost, score_s=score_s),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
    """All crops of some images, uint8 ``[n, 224, 224, 3]``."""
    pixels = b"".join(image.crops for image in decoded)
    return np.frombuffer(pixels, np.uint8).reshape(-1, CROP_SIZE, CROP_SIZE, 3)


def score_in_batches(backend: Backend, crops: NDArray[np.uint8], batch_size: int) -> Scores | None:
    """Scores of crops ``[n, 224, 224, 3]``, at most ``batch_size`` in a run; None when there is no crop."""
    if not len(crops):
        return None
    parts = [backend.score(crops[i : i + batch_size]) for i in range(0, len(crops), batch_size)]
    log_likelihoods = [part.log_likelihood for part in parts if part.log_likelihood is not None]
    probabilities = [part.p_ai_generated for part in parts if part.p_ai_generated is not None]
    return Scores(
        np.concatenate(log_likelihoods) if log_likelihoods else None,
        np.concatenate(probabilities) if probabilities else None,
        np.concatenate([part.embedding for part in parts]),
    )


def _rows(scores: Scores | None, start: int, stop: int) -> Scores | None:
    if scores is None or start == stop:
        return None
    return Scores(*(None if part is None else part[start:stop] for part in scores))  # type: ignore[arg-type]


def _is_full(batch: list[tuple[Source, Decoded]], batch_size: int) -> bool:
    # Images without faces count too, else a folder of landscapes would never hand on a row.
    return sum(max(1, len(decoded.faces)) for _, decoded in batch) >= batch_size


def _submit(source: Source, fetched: Fetched | None, fetcher: Fetcher, pool: DecoderPool) -> Future[Decoded]:
    if fetched is not None:
        return _decode_fetched(source, fetched, fetcher, pool)
    if source.problem is None and source.known is None:
        return pool.submit(Request(os.fsencode(source.name)))
    done: Future[Decoded] = Future()
    problem = source.problem
    done.set_result(Decoded() if problem is None else Decoded(reason=problem.reason, detail=problem.detail))
    return done


def _decode_fetched(source: Source, fetched: Fetched, fetcher: Fetcher, pool: DecoderPool) -> Future[Decoded]:
    """Decode an object as soon as it is here; its bytes are let go when that is done."""
    answer: Future[Decoded] = Future()
    ticket = fetched.ticket  # alone: the answer waits for its turn, and must not keep the bytes that long
    answer.add_done_callback(lambda _: fetcher.release(ticket))

    def decode(body: Future[Body]) -> None:
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


def with_stalls(sources: Iterable[Source]) -> Iterator[Source | None]:
    """The same sources, with one None whenever none came for a while (names typed, or a slow producer)."""
    if isinstance(sources, Sequence):
        yield from sources
        return
    listed: queue.Queue[Source | BaseException | None] = queue.Queue(maxsize=64)
    stop = threading.Event()
    threading.Thread(target=_list, args=(sources, listed, stop), daemon=True, name="sources").start()
    try:
        yield from _drain(listed)
    finally:
        stop.set()


def _drain(listed: queue.Queue[Source | BaseException | None]) -> Iterator[Source | None]:
    stalled = True
    while True:
        try:
            item = listed.get(timeout=None if stalled else STALL_S)
        except queue.Empty:
            stalled = True
            yield None
            continue
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        stalled = False
        yield item


def _list(
    sources: Iterable[Source], listed: queue.Queue[Source | BaseException | None], stop: threading.Event
) -> None:
    last: BaseException | None = None
    try:
        for source in sources:
            if not _put(listed, source, stop):
                return
    except BaseException as exc:  # handed to the thread that scans, which raises it
        last = exc
    _put(listed, last, stop)


def _put(
    listed: queue.Queue[Source | BaseException | None],
    item: Source | BaseException | None,
    stop: threading.Event,
) -> bool:
    while not stop.is_set():
        try:
            listed.put(item, timeout=0.5)
            return True
        except queue.Full:
            continue
    return False


@lru_cache(maxsize=1)
def _scanner(settings: ScanSettings) -> Scanner:
    return Scanner(settings)


def scan_chunk(sources: Sequence[Source], settings: ScanSettings) -> list[ImageRecord]:
    """Scan a chunk of sources: the unit of work of a worker process, on this machine or another.

    The detector and the decoder process are kept for the next chunk of the same settings.
    """
    return list(_scanner(settings).scan(sources))


def scan_in_processes(
    sources: Iterable[Source], settings: ScanSettings, n_workers: int
) -> Iterator[ImageRecord]:
    """Scan in ``n_workers`` processes. Same records, same order as in one process.

    Chunks are handed out only as their records are taken, so memory is bounded by the workers, not by the
    list. A worker that dies (killed, out of memory) costs no file: the unfinished chunks are scanned again.

    Raises:
        BackendError: workers keep dying.
    """
    with _Workers(settings, n_workers) as workers:
        for chunk in chunks(with_stalls(sources)):
            if chunk:
                workers.submit(chunk)
            while workers.waiting and (not chunk or workers.waiting > 2 * n_workers):
                yield from workers.next_records()
        while workers.waiting:
            yield from workers.next_records()


def chunks(sources: Iterable[Source | None]) -> Iterator[list[Source]]:
    """Sources in chunks, small ones first so that the first row comes soon; an empty one at a stall."""
    size, chunk = 2, list[Source]()
    for source in sources:
        if source is not None:
            chunk.append(source)
        if chunk and (source is None or len(chunk) >= size):
            yield chunk
            size, chunk = min(2 * size, LARGEST_CHUNK), []
        if source is None:
            yield []
    if chunk:
        yield chunk


class _Workers:
    """joblib's worker processes (loky), what they have yet to finish, and new ones when some die."""

    def __init__(self, settings: ScanSettings, n: int) -> None:
        self._settings, self._n = settings, n
        self._waiting: deque[tuple[list[Source], Future[list[ImageRecord]]]] = deque()
        self._deaths = 0
        self._pool = self._open()

    @property
    def waiting(self) -> int:
        """Chunks whose records have not been taken."""
        return len(self._waiting)

    def submit(self, chunk: list[Source]) -> None:
        """Hand out a chunk."""
        # Starting this helper of multiprocessing unblocks the signal that the next line blocks.
        resource_tracker.ensure_running()
        with sigint_blocked():  # workers start here and inherit the mask: Ctrl-C is the parent's to handle
            self._waiting.append((chunk, self._pool.submit(scan_chunk, chunk, self._settings)))

    def next_records(self) -> list[ImageRecord]:
        """Wait for the oldest chunk."""
        from joblib.externals.loky.process_executor import BrokenProcessPool

        while True:
            try:
                records = self._waiting[0][1].result()
            except BrokenProcessPool as exc:
                self._begin_again(exc)
                continue
            self._waiting.popleft()
            self._deaths = 0
            return records

    def _begin_again(self, exc: Exception) -> None:
        self._deaths += 1
        if self._deaths > WORKER_DEATHS:
            raise BackendError(f"worker processes keep dying: try fewer --workers ({exc})") from exc
        self._pool.shutdown(kill_workers=True)
        self._pool = self._open()
        unfinished, self._waiting = self._waiting, deque()
        for chunk, _ in unfinished:
            self.submit(chunk)

    def _open(self) -> Any:
        from joblib.externals.loky.process_executor import ProcessPoolExecutor

        return ProcessPoolExecutor(self._n, initializer=end_with, initargs=(os.getpid(),))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(kill_workers=True)
