"""Several processes that do the same work, behind a queue."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic

from bladescan.base.closing import Closing
from bladescan.processes.service import Answer, Ready, Request, Service, Settings
from bladescan.processes.worker import WorkerProcess


class WorkerPool(Closing, Generic[Settings, Ready, Request, Answer]):
    """``n`` processes behind a queue. They start when they are first needed.

    A thread waits on each process, so ``submit`` returns at once and the caller can do other work meanwhile.

    Args:
        n: processes.
        service, settings, timeout_s: see `bladescan.processes.worker.WorkerProcess`.
    """

    def __init__(
        self,
        n: int,
        service: Service[Settings, Ready, Request, Answer],
        settings: Settings,
        timeout_s: float,
    ) -> None:
        self.n, self.settings = n, settings
        self._new = partial(WorkerProcess, service, settings, timeout_s)
        self._local = threading.local()
        self.processes: list[WorkerProcess[Settings, Ready, Request, Answer]] = []
        self._threads = ThreadPoolExecutor(n, thread_name_prefix="worker")

    def start(self) -> Ready:
        """Start one process now, so that what cannot begin is an error before any work.

        Raises:
            BladescanError: it could not begin.
        """
        return self._threads.submit(lambda: self._mine().start()).result()

    def submit(self, request: Request) -> Future[Answer]:
        """Queue one request; see `bladescan.processes.worker.WorkerProcess.ask` for what comes of it."""
        return self._threads.submit(lambda: self._mine().ask(request))

    def close(self) -> None:
        """Drop what is queued and end every process."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self.processes):
            process.close()
        self._threads.shutdown(wait=True)
        for process in self.processes:
            process.kill()  # one that was just starting when it was closed

    def _mine(self) -> WorkerProcess[Settings, Ready, Request, Answer]:
        """Get the process of this thread."""
        if not hasattr(self._local, "process"):
            self._local.process = self._new()
            self.processes.append(self._local.process)
        mine: WorkerProcess[Settings, Ready, Request, Answer] = self._local.process
        return mine
