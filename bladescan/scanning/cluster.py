"""A scan on an existing Dask or Ray cluster, through joblib's own backends.

The chunks, the records and their order are those of `bladescan.scanning.workers.scan_in_processes`; only the
processes are others. joblib is used where its ``Parallel`` uses a backend, not through ``Parallel`` itself,
which would hand out chunks as fast as they finish instead of as fast as their rows are taken, scan in this
process where the cluster has one slot, and wait for ever on a chunk that its scheduler gives up.

Importing this module imports neither joblib nor Dask nor Ray.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
import warnings
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bladescan.base.errors import BackendError, BladescanError, MissingDependencyError, UsageError
from bladescan.base.logs import shown, wants_debug
from bladescan.base.records import ImageRecord, Reason, Verdict
from bladescan.scanning.cluster_worker import (
    Inspection,
    WorkerTask,
    end_scan,
    environment,
    inspect_worker,
    opened_buckets,
    scan_for_cluster,
)
from bladescan.scanning.pipeline import ScanSettings
from bladescan.scanning.stalls import with_stalls
from bladescan.scanning.workers import WORKER_DEATHS, chunks
from bladescan.sources.source import Source

POLL_S = 2.0
"""How often a wait for a chunk looks whether there is still a cluster."""
INSPECT_S = 180.0
"""Longest wait until every worker has loaded the detector."""
KNOCK_S = 10.0
"""Longest wait for a Ray cluster's door; Dask's is bounded by its own setting."""
END_S = 5.0
"""Longest wait for the workers' goodbye."""
_ADDRESS = re.compile(r"(dask|ray):(.+)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NOISY = ("distributed", "tornado", "asyncio", "ray")

_logger = logging.getLogger(__name__)


class _WorkerLost(Exception):
    """Worker after worker died on a chunk."""


@dataclass(frozen=True, slots=True)
class _Call:
    """Calls in the shape that joblib's backends take: ``(function, arguments, keywords)`` each."""

    items: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]

    def __call__(self) -> list[Any]:
        return [function(*arguments, **keywords) for function, arguments, keywords in self.items]


def _scan_call(sources: Sequence[Source], task: WorkerTask) -> _Call:
    return _Call([(scan_for_cluster, (sources, task, opened_buckets(sources)), {})])


class _Cluster(ABC):
    """The processes of others, behind joblib's backend for them."""

    name: str

    @abstractmethod
    def slots(self) -> int:
        """Chunks that run at the same time, at least 1."""

    @abstractmethod
    def inspect(self, task: WorkerTask) -> list[Inspection]:
        """Every worker's word on whether it can take part."""

    @abstractmethod
    def submit(self, sources: Sequence[Source], task: WorkerTask) -> Any:
        """Hand out a chunk."""

    @abstractmethod
    def result(self, handle: Any) -> list[ImageRecord]:
        """Wait for a chunk.

        Raises:
            _WorkerLost: workers died on it as often as the cluster allows.
            BackendError: a worker refused, or there is no cluster any more.
        """

    @abstractmethod
    def close(self, scan: str) -> None:
        """Take back what is not done, and have the workers forget the scan."""


class ClusterScan:
    """A scan whose workers have all shown that they would say what this machine would.

    Args:
        address: ``dask:ADDRESS`` or ``ray:ADDRESS``.
        settings: of the scan, with the face finder by its own name.
        shipped: the detector is the one that ships; else every worker must find it under the same path.

    Raises:
        UsageError: an address of another form.
        MissingDependencyError: Dask or Ray is not installed.
        BackendError: the cluster cannot be reached, has no workers, or workers that differ from this machine.
    """

    def __init__(self, address: str, settings: ScanSettings, *, shipped: bool) -> None:
        detector = Path(os.path.abspath(settings.detector))
        settings = replace(settings, detector=detector, n_decoders=1)
        self._task = WorkerTask(uuid.uuid4().hex, settings, shipped, environment(settings))
        self._cluster = _open(address)
        self._deaths = 0
        try:
            found = self._cluster.inspect(self._task)
            _refuse_problems(found, self._cluster.name)
        except BaseException:
            self.close()
            raise
        self.device = "+".join(sorted({one.device for one in found}))
        self.notice = _describe(self._cluster, self._task, found)

    def scan(self, sources: Iterable[Source]) -> Iterator[ImageRecord]:
        """One record for each source, in order; chunks go out only as their records are taken."""
        waiting: deque[tuple[list[Source], Any]] = deque()
        for chunk in chunks(with_stalls(sources)):
            if chunk:
                waiting.append((chunk, self._submit(chunk)))
            while waiting and (not chunk or len(waiting) > 2 * self._cluster.slots()):
                yield from self._records(*waiting.popleft())
        while waiting:
            yield from self._records(*waiting.popleft())

    def close(self) -> None:
        """Leave the cluster as it was found."""
        self._cluster.close(self._task.scan)

    def _submit(self, chunk: list[Source]) -> Any:
        unknown = [_absolute(source) for source in chunk if source.known is None]
        return self._cluster.submit(unknown, self._task) if unknown else None

    def _records(self, chunk: list[Source], handle: Any) -> Iterator[ImageRecord]:
        found = iter(self._found(chunk, handle))
        for source in chunk:
            yield source.known or _as_named_here(next(found), source.name)

    def _found(self, chunk: list[Source], handle: Any) -> Iterable[ImageRecord]:
        if handle is None:
            return ()
        try:
            records = self._cluster.result(handle)
        except _WorkerLost:
            # One by one, so that innocent files do not die beside the one that kills.
            return (self._alone(source) for source in chunk if source.known is None)
        self._deaths = 0
        return records

    def _alone(self, source: Source) -> ImageRecord:
        try:
            records = self._cluster.result(self._cluster.submit([_absolute(source)], self._task))
        except _WorkerLost as exc:
            self._deaths += 1
            if self._deaths > WORKER_DEATHS:
                last = shown(source.name)
                raise BackendError(f"cluster workers keep dying, the last on {last}: {exc}") from exc
            detail = f"cluster workers died on it: {exc}"
            return ImageRecord(source.name, Verdict.UNREADABLE, Reason.DECODER_CRASHED, detail)
        self._deaths = 0
        return records[0]


def is_local(name: str) -> bool:
    """Whether a name is a path, which means nothing without the machine it is on."""
    return _URL.match(name) is None


def _absolute(source: Source) -> Source:
    if not is_local(source.name):
        return source
    # Not abspath: it would take the folder out of folder/.., which is another place behind a link.
    return replace(source, name=os.path.join(os.getcwd(), source.name))


def _as_named_here(record: ImageRecord, name: str) -> ImageRecord:
    detail = record.detail
    if record.reason in (Reason.VANISHED, Reason.NOT_FOUND) and is_local(name) and os.path.lexists(name):
        detail = f"there is no such file on the worker, but there is one here ({detail})"
    return replace(record, source=name, detail=detail)


def _refuse_problems(found: Sequence[Inspection], name: str) -> None:
    if not found:
        raise BackendError(f"cluster {name}: its workers left before they could be asked")
    problems = [f"{one.worker}: {one.problem}" for one in found if one.problem]
    if problems:
        more = f" (and {len(problems) - 1} more workers)" if len(problems) > 1 else ""
        raise BackendError(
            f"cluster {name}: this worker cannot take part: {problems[0]}{more}; use one environment "
            "or image on all machines"
        )


def _describe(cluster: _Cluster, task: WorkerTask, found: Sequence[Inspection]) -> str:
    devices = ", ".join(f"{n} on {device}" for device, n in sorted(Counter(i.device for i in found).items()))
    alike = ", ".join(f"{name} {value}" for name, value in task.expected)
    return (
        f"cluster {cluster.name}: {len(found)} workers ({devices}), {cluster.slots()} chunks at a time, all "
        f"with {alike}; files are read by the workers, under the same absolute names"
    )


def _open(address: str) -> _Cluster:
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UsageError(
            f"--cluster {address!r}: expected dask:tcp://HOST:8786, dask:SCHEDULER.json or ray:auto"
        )
    return _Dask(match[2]) if match[1] == "dask" else _Ray(match[2])


def _hush() -> None:
    """The libraries' own logs say again, in many lines, what an error of ours says in one."""
    if not wants_debug():
        for name in [*logging.root.manager.loggerDict, *_NOISY]:
            if name.partition(".")[0] in _NOISY:
                logging.getLogger(name).setLevel(logging.CRITICAL)


def _ignore(_: object) -> None:
    """Results are taken from their futures."""


class _Dask(_Cluster):
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
        _hush()
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
        if time.monotonic() - self._asked > POLL_S:
            self._slots = max(1, self._n_threads())
            self._asked = time.monotonic()
        return self._slots

    def inspect(self, task: WorkerTask) -> list[Inspection]:
        answers = _bounded(lambda: self._client.run(_inspect_beside, task, on_error="return"), INSPECT_S)
        if answers is None:
            raise BackendError(f"cluster {self.name}: workers have not answered within {INSPECT_S:g} s")
        return [_inspection(worker, answer) for worker, answer in answers.items()]

    def submit(self, sources: Sequence[Source], task: WorkerTask) -> Any:
        return self._backend.submit(_scan_call(sources, task), _ignore)

    def result(self, handle: Any) -> list[ImageRecord]:
        from distributed.scheduler import KilledWorker

        try:
            answer = self._answer(handle)
        except KilledWorker as exc:
            raise _WorkerLost(
                f"{exc.allowed_failures + 1} of them, the last {exc.last_worker.address}"
            ) from exc
        return _unwrapped(self._backend, answer, self.name)

    def close(self, scan: str) -> None:
        with suppress(Exception):  # a cluster that is gone has forgotten us already
            _bounded(lambda: self._client.run(end_scan, scan, on_error="ignore"), END_S)
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
            why = _one_line(exc)
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
                raise BackendError(f"cluster {self.name} has no workers any more")

    def _gone(self) -> BackendError:
        return BackendError(f"cluster {self.name}: the scheduler is gone")


def _scheduler_in(path: str) -> str:
    """The address in a file that ``dask scheduler --scheduler-file`` wrote."""
    try:
        return str(json.loads(Path(path).read_bytes())["address"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise UsageError(
            f"--cluster dask:{path}: expected tcp://HOST:8786, or a file of dask scheduler --scheduler-file "
            f"({_one_line(exc)})"
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
        return Inspection(worker, problem=f"has no bladescan like this one: {_one_line(answer)}")
    return Inspection(worker, problem=_one_line(answer))


class _Ray(_Cluster):
    """A Ray cluster: one actor for each of its CPUs at the start, restarted when they die."""

    def __init__(self, address: str) -> None:
        self.name = f"ray {address}"
        try:
            import ray
            from ray.util.joblib.ray_backend import RayBackend
        except ImportError as exc:
            raise MissingDependencyError("--cluster ray", "ray", "pip install 'bladescan[ray]'") from exc
        _hush()
        self._ray = ray
        _logger.warning("connecting to cluster %s", self.name)
        try:
            _knock_at(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except (OSError, ValueError, RuntimeError) as exc:
            raise BackendError(f"cluster {self.name} cannot be reached: {_one_line(exc)}") from exc
        self._n = int(ray.cluster_resources().get("CPU", 0))
        # An actor comes back after a death, and is given the chunk again.
        self._backend = RayBackend(
            ray_remote_args={"max_restarts": -1, "max_task_retries": WORKER_DEATHS, "num_cpus": 1}
        )
        if self._n < 2:
            self.close("")
            raise BackendError(
                f"cluster {self.name} has {self._n} CPUs; joblib needs 2 or more: scan without --cluster"
            )
        self._backend.configure(self._n)

    def slots(self) -> int:
        return self._n

    def inspect(self, task: WorkerTask) -> list[Inspection]:
        # joblib's pool gives calls to its actors in turn: so many calls reach each of them once.
        handles = [
            self._backend.submit(_Call([(inspect_worker, (task,), {})]), _ignore) for _ in range(self._n)
        ]
        return [self._inspection(handle) for handle in handles]

    def submit(self, sources: Sequence[Source], task: WorkerTask) -> Any:
        return self._backend.submit(_scan_call(sources, task), _ignore)

    def result(self, handle: Any) -> list[ImageRecord]:
        try:
            while not handle.ready():  # in steps, between which a signal is heard
                handle.wait(POLL_S)
            answer = handle.get()
        except self._ray.exceptions.RayError as exc:
            raise _WorkerLost(_one_line(exc)) from exc
        return _unwrapped(self._backend, answer, self.name)

    def close(self, scan: str) -> None:
        _bounded(
            self._ray.shutdown, END_S
        )  # the actors end with the driver that started them, and their decoders with them

    def _inspection(self, handle: Any) -> Inspection:
        try:
            (found,) = self._backend.retrieve_result_callback(handle.get(INSPECT_S))
        except Exception as exc:  # whatever an actor may have died of
            return Inspection("an actor", problem=_one_line(exc))
        return found if isinstance(found, Inspection) else Inspection("an actor", problem="out of step")


def _knock_at(address: str) -> None:
    """Ray itself tries an address where nobody listens for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "//" not in host:
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def _unwrapped(backend: Any, answer: Any, name: str) -> list[ImageRecord]:
    """The records of a chunk, or the error that ended it."""
    if isinstance(answer, BladescanError):  # a worker's own word
        raise BackendError(f"cluster {name}: {answer}") from answer
    if isinstance(answer, BaseException):  # how joblib hands on that a chunk was cancelled
        raise BackendError(f"cluster {name}: a chunk was cancelled; the scheduler is gone") from answer
    records: list[ImageRecord]
    (records,) = backend.retrieve_result_callback(answer)
    return records


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__


def _bounded(call: Callable[[], Any], timeout_s: float) -> Any:
    """The call's result; None when it does not come in time."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as exc:  # raised again by whoever waits
            errors.append(exc)

    thread = threading.Thread(target=run, daemon=True, name="cluster")
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    return results[0] if results else None
