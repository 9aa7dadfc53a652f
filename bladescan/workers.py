"""Worker processes that may die or hang: one item at a time each, a deadline, a fresh one after a death.

It knows nothing of images; what is done to an item is a function that it is given. An item that kills or
hangs its process costs no other item.
"""

from __future__ import annotations

import os
import queue
import resource
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import resource_tracker
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from bladescan.decoders import sigint_blocked
from bladescan.errors import BackendError
from bladescan.records import Reason

START_TIMEOUT_S = 180.0

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class WorkerPool(Generic[_In, _Out]):
    """``n`` processes behind a queue; a thread waits on each.

    Each process is an executor of its own, so that the death of one costs the others nothing. They start when
    they are first needed.

    Args:
        work: what is done to an item, in a process; functions, items and answers are pickled.
        begin: called once in every process before its first item; what it raises ends the work.
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
        """Queue one item. The answer is the work's, or ``TIMEOUT`` or ``DECODER_CRASHED``."""
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


class _Process(Generic[_In, _Out]):
    """One process, started when first needed and again after each death. Not for two threads at once."""

    def __init__(self, work: Callable[[_In], _Out], begin: Callable[[], object], timeout_s: float) -> None:
        self._work, self._begin, self._timeout_s = work, begin, timeout_s
        self._executor: Any = None
        self._closing = False

    def ask(self, item: _In) -> _Out | Reason:
        """The work on one item. A death is tried once more in a fresh process, a missed deadline is not."""
        from joblib.externals.loky.process_executor import BrokenProcessPool

        for _ in range(2):
            try:
                answer: _Out = self._started().submit(self._work, item).result(self._timeout_s)
                return answer
            except TimeoutError:
                self.kill()
                return Reason.TIMEOUT
            except BrokenProcessPool:
                self.kill()
        return Reason.DECODER_CRASHED

    def kill(self) -> None:
        """End the process at once. Doing it twice is fine."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(kill_workers=True)

    def close(self) -> None:
        """End the process for good, also while another thread waits for its answer."""
        self._closing = True
        self.kill()

    def _started(self) -> Any:
        """The executor of a process that has begun.

        Raises:
            BackendError: it does not start, or was closed.
        """
        from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

        if self._executor is not None:
            return self._executor
        if self._closing:
            raise BackendError("the work was ended")
        # Parallelism comes from several processes; threads inside each would only fight.
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        executor = ProcessPoolExecutor(1, initializer=_settle, initargs=(os.getpid(),), env=one_thread)
        self._executor = executor
        # Starting this helper of multiprocessing unblocks the signal that the next line blocks.
        resource_tracker.ensure_running()
        with sigint_blocked():  # the process inherits the mask: Ctrl-C is the parent's to handle
            ready = executor.submit(self._begin)
        try:
            ready.result(START_TIMEOUT_S)
        except (TimeoutError, BrokenProcessPool) as exc:
            self.kill()
            raise BackendError(
                "a worker process does not start; see why with: bladescan doctor --debug"
            ) from exc
        return executor


def _settle(parent: int) -> None:
    """At the start of a process: end with the parent, dump no core, chatter to nobody."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch").start()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not os.environ.get("BLADESCAN_DEBUG"):
        # Native decoders chatter about broken files, and each file's reason says it already.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
