"""A scan in several processes of this machine: chunks of sources out, records back in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import lru_cache
from multiprocessing import resource_tracker
from types import TracebackType
from typing import Any, Self

from bladescan.base import logs
from bladescan.base.errors import BackendError
from bladescan.base.records import ImageRecord
from bladescan.processes.lifetime import end_with, sigint_blocked
from bladescan.scanning.pipeline import Pipeline, ScanSettings
from bladescan.scanning.stalls import with_stalls
from bladescan.sources.source import Source

LARGEST_CHUNK = 32
WORKER_DEATHS = 3
"""A worker pool that dies so often without finishing one chunk is given up."""


@lru_cache(maxsize=1)
def _pipeline(settings: ScanSettings) -> Pipeline:
    return Pipeline(settings)


def scan_chunk(sources: Sequence[Source], settings: ScanSettings) -> list[ImageRecord]:
    """Scan a chunk of sources: the unit of work of a worker process, on this machine or another.

    The detector and the decoder process are kept for the next chunk of the same settings.
    """
    return list(_pipeline(settings).scan(sources))


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
    """Group sources in chunks, small ones first so that the first row comes soon; an empty one at a stall."""
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

        arguments = (os.getpid(), logs.installed_settings())
        return ProcessPoolExecutor(self._n, initializer=_begin_worker, initargs=arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(kill_workers=True)


def _begin_worker(parent: int, log: logs.LogSettings | None) -> None:
    """In a worker: write lines as the parent does, and end when it is gone, however it went."""
    if log is not None:
        logs.install(log)
    end_with(parent)
