"""Sources whose list may come slowly: what was listed so far must not wait for what is not."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence

from bladescan.sources.source import Source

STALL_S = 0.1
"""When no new source comes for so long, what is decoded is scored and handed on."""


def with_stalls(sources: Iterable[Source]) -> Iterator[Source | None]:
    """Hand sources on, with one None whenever none came for a while (names typed, or a slow producer)."""
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
