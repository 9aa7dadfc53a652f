"""Objects fetched ahead of the decoders, many at once, within a limit of bytes. Nothing is decoded here.

One thread runs an event loop; each object is a task in it, so that closing cancels all of them at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from bladescan.base.closing import Closing
from bladescan.base.errors import BladescanError, ImageError
from bladescan.base.records import Reason
from bladescan.processes.deadline import Deadline
from bladescan.sources import retries
from bladescan.sources.addresses import is_url, parse_url, without_url
from bladescan.sources.buckets import open_store
from bladescan.sources.retries import TransientError, in_thread, retry_async
from bladescan.sources.stored_objects import StoredObject, TooLargeError, check_size

if TYPE_CHECKING:
    from bladescan.sources.source import Source

BUDGET_BYTES = 256_000_000
"""Most bytes of objects that one scanning process holds, decoding included. A larger object is held alone."""
CONCURRENCY = 16
AHEAD = 2 * CONCURRENCY
"""Objects asked for before the first of them is decoded."""
UNKNOWN_BYTES = 4_000_000
"""Bytes reserved for an object of unknown size. If it turns out larger, it is asked for again."""
MAX_STALLS = 4
"""An object is given up after this many times ``timeout_s``, attempts and pauses included."""


class FetchedBytes(NamedTuple):
    """An object's bytes, and the seconds that they took to arrive, pauses included."""

    data: bytes
    fetch_s: float


class PendingFetch(NamedTuple):
    """An object being fetched. Release its ``ticket`` when its bytes are no longer needed."""

    body: Future[FetchedBytes]
    ticket: int


class Fetcher(Closing):
    """Fetches objects in a thread of its own, which starts with the first of them.

    Args:
        max_bytes: a larger object is not fetched.
        timeout_s: how long a server may send nothing in the middle of an object.
    """

    def __init__(self, max_bytes: int, timeout_s: float) -> None:
        self._max_bytes, self._timeout_s = max_bytes, timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._n_tickets = 0

    def submit(self, source: Source) -> PendingFetch:
        """Start to fetch an object; the result is a body or an ImageError."""
        loop = self._loop or self._start()
        self._n_tickets += 1
        ticket = self._n_tickets
        loop.call_soon_threadsafe(self._room.enter, ticket)
        return PendingFetch(asyncio.run_coroutine_threadsafe(self._fetch(source, ticket), loop), ticket)

    def release(self, ticket: int) -> None:
        """Say that the bytes of an object are no longer held. Releasing twice is fine."""
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._room.leave, ticket)
            except RuntimeError:
                pass  # closed meanwhile: nobody waits for room any more

    def close(self) -> None:
        """Cancel what is being fetched. Closing twice is fine."""
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _start(self) -> asyncio.AbstractEventLoop:
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name="fetcher", daemon=True
        )
        self._thread.start()
        ready.wait()
        assert self._loop is not None
        return self._loop

    async def _serve(self, ready: threading.Event) -> None:
        """Run until closed; asyncio.run then cancels every task that is left."""
        self._room, self._slots, self._stop = (
            _ByteBudget(BUDGET_BYTES),
            asyncio.Semaphore(CONCURRENCY),
            asyncio.Event(),
        )
        self._loop = asyncio.get_running_loop()
        ready.set()
        await self._stop.wait()

    async def _fetch(self, source: Source, ticket: int) -> FetchedBytes:
        listed = None if source.stamp is None else StoredObject("", *source.stamp)
        size = UNKNOWN_BYTES if listed is None else listed.size
        if listed is not None:
            check_size(listed.size, self._max_bytes)
        limit = min(size, self._max_bytes)
        async with self._slots:
            while True:
                await self._room.take(ticket, size)
                started = time.perf_counter()
                try:
                    data = await self._within_deadline(source.name, listed, limit)
                    return FetchedBytes(data, time.perf_counter() - started)
                except TooLargeError as exc:
                    check_size(exc.size, self._max_bytes)
                    size, limit = exc.size, self._max_bytes

    async def _within_deadline(self, name: str, listed: StoredObject | None, limit: int) -> bytes:
        longest = MAX_STALLS * self._timeout_s
        deadline = Deadline(longest)
        fetched = asyncio.ensure_future(self._with_retries(name, listed, limit))
        try:
            while deadline.left > 0:
                tick, began = deadline.next_tick(), time.monotonic()
                done, _ = await asyncio.wait((fetched,), timeout=tick)
                if done:
                    return fetched.result()
                deadline.count(tick, time.monotonic() - began)
            raise ImageError(Reason.TIMEOUT, f"not fetched within {longest:g} s")
        finally:
            fetched.cancel()

    async def _with_retries(self, name: str, listed: StoredObject | None, limit: int) -> bytes:
        try:
            return await retry_async(lambda: self._once(name, listed, limit), name)
        except TransientError as exc:
            times = 1 + len(retries.BACKOFF_S)
            raise ImageError(exc.reason, f"{exc.detail}; tried {times} times") from exc

    async def _once(self, name: str, listed: StoredObject | None, limit: int) -> bytes:
        try:
            address = parse_url(name)
            store = await in_thread(lambda: open_store(address))
            return await store.read(address.key, listed, limit, self._timeout_s)
        except ImageError:
            raise
        except BladescanError as exc:
            raise ImageError(Reason.READ_ERROR, without_url(exc, name)) from exc


class _ByteBudget:
    """The bytes that may be held at once. Used in the thread of the loop only.

    Rows come out in order, so the oldest object is always admitted: all others may be waiting for it.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._held: dict[int, int] = {}
        self._waiting: dict[int, tuple[int, asyncio.Future[None]]] = {}

    def enter(self, ticket: int) -> None:
        """Take a place in the order."""
        self._held[ticket] = 0

    def leave(self, ticket: int) -> None:
        """Give up the place and its bytes."""
        self._held.pop(ticket, None)
        self._admit()

    async def take(self, ticket: int, size: int) -> None:
        """Wait until this many bytes may be held, in place of those held before."""
        self._held[ticket] = 0
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = (size, admitted)
        self._admit()
        try:
            await admitted
        finally:
            self._waiting.pop(ticket, None)

    def _admit(self) -> None:
        oldest = next(iter(self._held), None)
        for ticket, (size, admitted) in list(self._waiting.items()):
            if admitted.done():
                continue
            if ticket == oldest or sum(self._held.values()) + size <= self._budget:
                self._held[ticket] = size
                admitted.set_result(None)


def fetch_ahead(
    sources: Iterable[Source | None], fetcher: Fetcher
) -> Iterator[tuple[Source | None, PendingFetch | None]]:
    """Yield the same sources in the same order, and start to fetch those behind URLs before they come out.

    A None among the sources marks a stall; it comes out after everything before it.
    """
    pending: deque[tuple[Source | None, PendingFetch | None]] = deque()
    try:
        for source in sources:
            pending.append((source, fetcher.submit(source) if _is_wanted(source) else None))
            while pending and (source is None or len(pending) > AHEAD or _is_here(pending[0][1])):
                yield pending.popleft()
        while pending:
            yield pending.popleft()
    finally:
        for _, fetched in pending:
            if fetched is not None:
                fetched.body.cancel()
                fetcher.release(fetched.ticket)


def _is_wanted(source: Source | None) -> TypeGuard[Source]:
    return source is not None and source.problem is None and source.known is None and is_url(source.name)


def _is_here(fetched: PendingFetch | None) -> bool:
    return fetched is None or fetched.body.done()
