"""Worker processes that may die or hang: one item at a time each, a deadline, a fresh one after a death.

It knows nothing of images; what is done to an item is a function that it is given. An item that kills or
hangs its process costs no other item.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import resource
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar

from bladescan.base.errors import BackendError
from bladescan.base.records import Reason
from bladescan.scanning.decoders import MOST_GROWTH, resident_bytes, sigint_blocked

START_TIMEOUT_S = 180.0

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class WorkerPool(Generic[_In, _Out]):
    """``n`` processes behind a queue; a thread waits on each. They start when they are first needed.

    Args:
        work: what is done to an item, in a process; functions, items and answers are pickled.
        begin: called once in every process before its first item.
        n: processes.
        timeout_s: longest time for one item.
    """

    def __init__(
        self, work: Callable[[_In], _Out], begin: Callable[[], object], n: int, timeout_s: float
    ) -> None:
        self.n = n
        self._processes = [_Process(work, begin, timeout_s) for _ in range(n)]
        self._free: queue.SimpleQueue[_Process[_In, _Out]] = queue.SimpleQueue()
        for process in self._processes:
            self._free.put(process)
        self._threads = ThreadPoolExecutor(n, thread_name_prefix="worker")

    def submit(self, item: _In) -> Future[_Out | Reason]:
        """Queue one item.

        The answer is the work's own, or `Reason.TIMEOUT` or `Reason.DECODER_CRASHED`; what ``work`` or
        ``begin`` raises is raised again.
        """
        return self._threads.submit(self._ask, item)

    def _ask(self, item: _In) -> _Out | Reason:
        process = self._free.get()
        try:
            return process.ask(item)
        finally:
            self._free.put(process)

    def close(self) -> None:
        """Drop what is queued and end every process."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.close()
        self._threads.shutdown(wait=True)
        for process in self._processes:
            process.kill()  # one that was just starting when it was closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Started(NamedTuple):
    """A process and this end of its pipe."""

    process: SpawnProcess
    pipe: Connection


class _Process(Generic[_In, _Out]):
    """One process, started when first needed and again after each death. Not for two threads at once."""

    def __init__(self, work: Callable[[_In], _Out], begin: Callable[[], object], timeout_s: float) -> None:
        self._work, self._begin, self._timeout_s = work, begin, timeout_s
        self._started: _Started | None = None
        self._bytes_at_first = 0
        self._closing = False

    def ask(self, item: _In) -> _Out | Reason:
        """The work on one item. A death is tried once more in a fresh process, a missed deadline is not."""
        for _ in range(2):
            started = self._started or self._start()
            try:
                started.pipe.send(item)
                answer: _Out = _received(started.pipe, self._timeout_s)
                self._replace_if_grown(started)
                return answer
            except TimeoutError:
                self.kill()
                return Reason.TIMEOUT
            except (EOFError, ConnectionError):
                self.kill()
        return Reason.DECODER_CRASHED

    def _replace_if_grown(self, started: _Started) -> None:
        """Since its first answer, by when all libraries are loaded."""
        now = resident_bytes(started.process.pid or 0)
        self._bytes_at_first = self._bytes_at_first or now
        if now - self._bytes_at_first > 4 * MOST_GROWTH:
            self.kill()

    def kill(self) -> None:
        """End the process at once. Doing it twice is fine."""
        self._bytes_at_first = 0
        started, self._started = self._started, None
        if started is not None:
            started.process.kill()
            started.process.join()
            started.pipe.close()

    def close(self) -> None:
        """End the process for good, also while another thread waits for its answer."""
        self._closing = True
        started = self._started
        if started is not None:
            started.process.kill()

    def _start(self) -> _Started:
        """Start the process and wait until it has begun.

        Raises:
            BackendError: it does not start, or was closed.
        """
        if self._closing:
            raise BackendError("the work was ended")
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)
        # Starting this helper of multiprocessing unblocks the signal that the next line blocks.
        resource_tracker.ensure_running()
        with sigint_blocked():  # the process inherits the mask: Ctrl-C is the parent's to handle
            process.start()
        theirs.close()  # else its end would never be seen
        self._started = _Started(process, ours)
        try:
            ours.send((self._begin, self._work))
            _received(ours, START_TIMEOUT_S)
        except (TimeoutError, EOFError, ConnectionError) as exc:
            self.kill()
            raise BackendError(
                "a worker process does not start; see why with: bladescan doctor --debug"
            ) from exc
        return self._started


def _received(pipe: Connection, timeout_s: float) -> Any:
    """The next answer; what the process raised is raised here.

    Raises:
        TimeoutError: it does not come in time.
        EOFError: the process has died.
    """
    if not pipe.poll(timeout_s):
        raise TimeoutError
    raised, answer = pipe.recv()
    if raised is not None:
        raise raised
    return answer


# In the process


def _serve(pipe: Connection, parent: int) -> None:
    """Answer items until the pipe closes."""
    _settle(parent)
    # Read when the libraries are loaded, by the next line. Parallelism comes from several processes.
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | dict(os.environ))
    begin, work = pipe.recv()
    pipe.send(_answer(lambda _: begin(), None))
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        pipe.send(_answer(work, item))


def _answer(work: Callable[[Any], object], item: object) -> tuple[Exception | None, object]:
    try:
        return None, work(item)
    except Exception as exc:  # raised again where the item came from
        return exc, None


def _settle(parent: int) -> None:
    """End with the parent, leave Ctrl-C to it, dump no core, chatter to nobody."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch").start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not os.environ.get("BLADESCAN_DEBUG"):
        # Native decoders chatter about broken files, and each file's reason says it already.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
