"""A Dask cluster that scans. Importing this module does not import Dask."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bladescan.base.errors import BackendError, MissingDependencyError, UsageError
from bladescan.base.records import ImageRecord
from bladescan.scanning.cluster_backend import (
    END_S,
    INSPECT_S,
    POLL_S,
    Cluster,
    WorkerLostError,
    bounded,
    hush,
    ignore,
    one_line,
    scan_call,
    unwrapped,
)
from bladescan.scanning.cluster_worker import Inspection, WorkerTask, end_scan, inspect_worker
from bladescan.sources.source import Source

_logger = logging.getLogger(__name__)


class DaskCluster(Cluster):
    """A Dask cluster. It reschedules the chunks of a worker that dies.

    Waits for the scheduler and its first worker are bounded by Dask's own setting
    ``distributed.comm.timeouts.connect``.
    """

    def __init__(self, address: str) -> None:
        self.name = f"dask {address}"
        try:
            import dask
            import distributed
            from joblib._dask import DaskDistributedBackend
        except ImportError as exc:
            raise MissingDependencyError(
                "--cluster dask", "distributed", "pip install 'bladescan[cluster]'"
            ) from exc
        hush()
        wait = dask.config.get("distributed.comm.timeouts.connect")
        self._patience_s = float(dask.utils.parse_timedelta(wait))
        self._client = self._connect(distributed, address)
        try:
            self._wait_for_workers()
            self._backend = DaskDistributedBackend(client=self._client, wait_for_workers_timeout=0)
            self._backend.start_call()
        except BaseException:
            self._client.close(timeout=END_S)
            raise
        self._slots, self._asked = 1, 0.0

    def slots(self) -> int:
        """Count the chunks that run at the same time, see `Cluster`."""
        if time.monotonic() - self._asked > POLL_S:
            self._slots = max(1, self._n_threads())
            self._asked = time.monotonic()
        return self._slots

    def inspect(self, task: WorkerTask) -> list[Inspection]:
        """Ask every worker whether it can take part, see `Cluster`."""
        answers = bounded(lambda: self._client.run(_inspect_beside, task, on_error="return"), INSPECT_S)
        if answers is None:
            raise BackendError(f"cluster {self.name}: workers have not answered within {INSPECT_S:g} s")
        return [_inspection(worker, answer) for worker, answer in answers.items()]

    def submit(self, sources: Sequence[Source], task: WorkerTask) -> Any:
        """Hand out a chunk, see `Cluster`."""
        return self._backend.submit(scan_call(sources, task), ignore)

    def result(self, handle: Any) -> list[ImageRecord]:
        """Wait for a chunk, see `Cluster`."""
        from distributed.scheduler import KilledWorker

        try:
            answer = self._answer(handle)
        except KilledWorker as exc:
            raise WorkerLostError(
                f"{exc.allowed_failures + 1} of them, the last {exc.last_worker.address}"
            ) from exc
        return unwrapped(self._backend, answer, self.name)

    def close(self, scan: str) -> None:
        """Leave the cluster as it was found, see `Cluster`."""
        with suppress(Exception):  # a cluster that is gone has forgotten us already
            bounded(lambda: self._client.run(end_scan, scan, on_error="ignore"), END_S)
        with suppress(Exception):
            self._backend.abort_everything()
            self._backend.stop_call()
        with suppress(Exception):
            self._client.close(timeout=END_S)

    def _connect(self, distributed: Any, address: str) -> Any:
        if "://" not in address:
            address = _scheduler_in(address)
        try:
            # First by hand: a client whose start fails would come back from its grave and hang.
            asyncio.run(_knock(distributed, address))
            with warnings.catch_warnings():  # of versions that differ, which inspection tells better
                warnings.simplefilter("ignore")
                return distributed.Client(address, set_as_default=False, name="bladescan")
        except (OSError, ValueError, TypeError) as exc:
            why = one_line(exc)
            raise BackendError(f"cluster {self.name}: the scheduler cannot be reached: {why}") from exc

    def _wait_for_workers(self) -> None:
        if self._n_threads():
            return
        _logger.warning(
            "cluster %s has no workers; waiting up to %g s for the first", self.name, self._patience_s
        )
        until = time.monotonic() + self._patience_s
        while not self._n_threads():
            if time.monotonic() > until:
                raise BackendError(f"cluster {self.name} has no workers: start some (dask worker ADDRESS)")
            time.sleep(0.2)

    def _n_threads(self) -> int:
        try:
            return int(sum(self._client.nthreads().values()))
        except Exception as exc:  # whatever a connection that breaks may raise
            raise self._gone() from exc

    def _answer(self, handle: Any) -> Any:
        """Wait as long as there is somebody to wait for."""
        alone_since = None
        while True:
            try:
                return handle.result(timeout=POLL_S)
            except TimeoutError:
                if handle.done():
                    raise
            if self._n_threads():
                alone_since = None
                continue
            alone_since = alone_since or time.monotonic()
            if time.monotonic() - alone_since > self._patience_s:
                raise BackendError(f"cluster {self.name} no longer has workers")

    def _gone(self) -> BackendError:
        return BackendError(f"cluster {self.name}: the scheduler is gone")


def _scheduler_in(path: str) -> str:
    """Read the address in a file that ``dask scheduler --scheduler-file`` wrote."""
    try:
        return str(json.loads(Path(path).read_bytes())["address"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise UsageError(
            f"--cluster dask:{path}: expected tcp://HOST:8786, or a file of dask scheduler --scheduler-file "
            f"({one_line(exc)})"
        ) from exc


async def _knock(distributed: Any, address: str) -> None:
    """Open a connection to a scheduler, and close it."""
    arguments = distributed.Security().get_connection_args("client")
    comm = await distributed.comm.connect(address, **arguments)
    await comm.close()


async def _inspect_beside(task: WorkerTask) -> Inspection:
    """In a worker: beside its event loop, which must answer its scheduler meanwhile."""
    return await asyncio.to_thread(inspect_worker, task)


def _inspection(worker: str, answer: Any) -> Inspection:
    if isinstance(answer, Inspection):
        return replace(answer, worker=f"{worker} on {answer.worker}")
    if isinstance(answer, ImportError | AttributeError):
        return Inspection(worker, problem=f"has no bladescan like this one: {one_line(answer)}")
    return Inspection(worker, problem=one_line(answer))
