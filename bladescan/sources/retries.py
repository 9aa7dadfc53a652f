"""Waiting for servers: what is worth another attempt, the pauses in between, how long an answer may take.

It knows no server and no library that talks to one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bladescan.base.records import Reason

BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Longest pause in seconds before each new attempt."""
CONNECT_S = 10.0
LISTING_STALL_S = 60.0
"""A listing that sends nothing for this long is asked for again."""
TELL_EVERY_S = 5.0
_T = TypeVar("_T")
_logger = logging.getLogger(__name__)


class TransientError(Exception):
    """A failure that may not happen the next time.

    Args:
        detail: what happened, in a few words.
        reason: of the row, if no attempt succeeds.
    """

    def __init__(self, detail: str, reason: Reason = Reason.READ_ERROR) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason


class _Pauses:
    """The pauses between attempts: growing, and random, so that waiting tasks do not all come back at once.

    Args:
        name: the URL that it is about.
    """

    def __init__(self, name: str) -> None:
        self._name, self._left = name, iter(BACKOFF_S)

    def after(self, exc: TransientError) -> float:
        """Announce another attempt and return the seconds until then; after the last attempt, raise."""
        pause = next(self._left, None)
        if pause is None:
            raise exc
        _retries.tell(self._name, exc.detail)
        return pause * random.uniform(0.5, 1.0)


def retry(action: Callable[[], _T], name: str) -> _T:
    """Run an action, again after growing pauses if it fails, and return its result.

    Args:
        action: may raise `TransientError`.
        name: the URL that it is about.

    Raises:
        TransientError: no attempt succeeded.
    """
    pauses = _Pauses(name)
    while True:
        try:
            return action()
        except TransientError as exc:
            time.sleep(pauses.after(exc))


async def retry_async(action: Callable[[], Awaitable[_T]], name: str) -> _T:
    """Run an action as `retry` does, and let other tasks run during the pauses."""
    pauses = _Pauses(name)
    while True:
        try:
            return await action()
        except TransientError as exc:
            await asyncio.sleep(pauses.after(exc))


class _Retries:
    """Says that something is tried again, but not too often: a failing server means thousands of attempts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._silent_until = 0.0
        self._unsaid = 0

    def tell(self, name: str, detail: str) -> None:
        with self._lock:
            if time.monotonic() < self._silent_until:
                self._unsaid += 1
                return
            unsaid, self._unsaid = self._unsaid, 0
            self._silent_until = time.monotonic() + TELL_EVERY_S
        more = f" (and {unsaid} more since the last such line)" if unsaid else ""
        told = {"event": "retry", "source": name, "fields": {"detail": detail, "unsaid": unsaid}}
        _logger.warning("%s; trying again%s", detail, more, extra=told)


_retries = _Retries()


async def in_thread(action: Callable[[], _T]) -> _T:
    """Run an action in a thread of its own, which never keeps the process from ending."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_T] = loop.create_future()

    def settle(value: _T | None, exc: BaseException | None) -> None:
        if answer.done():
            return
        if exc is not None:
            answer.set_exception(exc)
        else:
            answer.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, failure = None, None
        try:
            value = action()
        except BaseException as exc:  # raised where the result is awaited
            failure = exc
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=run, daemon=True, name="object").start()
    return await answer
