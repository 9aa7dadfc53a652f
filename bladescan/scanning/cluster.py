"""A scan on an existing Dask or Ray cluster.

The chunks, the records and their order are those of `bladescan.scanning.workers.scan_in_processes`; only the
processes are others. Importing this module imports neither joblib nor Dask nor Ray.
"""

from __future__ import annotations

import os
import re
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bladescan.base.errors import BackendError, UsageError
from bladescan.base.logs import shown
from bladescan.base.records import ImageRecord, Reason, Verdict
from bladescan.scanning.cluster_backend import Cluster, WorkerLostError
from bladescan.scanning.cluster_worker import Inspection, WorkerTask, environment
from bladescan.scanning.dask_cluster import DaskCluster
from bladescan.scanning.pipeline import ScanSettings
from bladescan.scanning.ray_cluster import RayCluster
from bladescan.scanning.stalls import with_stalls
from bladescan.scanning.workers import WORKER_DEATHS, chunks
from bladescan.sources.source import Source

_ADDRESS = re.compile(r"(dask|ray):(.+)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class ClusterScan:
    """A scan whose workers have all shown that they would say what this machine would.

    Args:
        address: ``dask:ADDRESS`` or ``ray:ADDRESS``.
        settings: of the scan, with the face finder by its own name.
        shipped: by detector: it ships with the package; else every worker must find it under the same path.

    Raises:
        UsageError: an address of another form.
        MissingDependencyError: Dask or Ray is not installed.
        BackendError: the cluster cannot be reached, has no workers, or workers that differ from this machine.
    """

    def __init__(self, address: str, settings: ScanSettings, *, shipped: tuple[bool, ...]) -> None:
        files = [Path(os.path.abspath(file)) for file in settings.files]
        settings = replace(settings.with_files(files), n_decoders=1)
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
        """Yield one record for each source, in order; chunks go out only as their records are taken."""
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
        except WorkerLostError:
            # One by one, so that innocent files do not die beside the one that kills.
            return (self._alone(source) for source in chunk if source.known is None)
        self._deaths = 0
        return records

    def _alone(self, source: Source) -> ImageRecord:
        try:
            records = self._cluster.result(self._cluster.submit([_absolute(source)], self._task))
        except WorkerLostError as exc:
            self._deaths += 1
            if self._deaths > WORKER_DEATHS:
                last = shown(source.name)
                raise BackendError(f"cluster workers keep dying, the last on {last}: {exc}") from exc
            detail = f"cluster workers died on it: {exc}"
            return ImageRecord(source.name, Verdict.UNREADABLE, Reason.DECODER_CRASHED, detail)
        self._deaths = 0
        return records[0]


def is_local(name: str) -> bool:
    """Tell whether a name is a path, which means nothing without the machine it is on."""
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
        raise BackendError(f"cluster {name}: its workers left before they could be checked")
    problems = [f"{one.worker}: {one.problem}" for one in found if one.problem]
    if problems:
        more = f" (and {len(problems) - 1} more workers)" if len(problems) > 1 else ""
        raise BackendError(
            f"cluster {name}: this worker cannot take part: {problems[0]}{more}; use one environment "
            "or image on all machines"
        )


def _describe(cluster: Cluster, task: WorkerTask, found: Sequence[Inspection]) -> str:
    devices = ", ".join(f"{n} on {device}" for device, n in sorted(Counter(i.device for i in found).items()))
    alike = ", ".join(f"{name} {value}" for name, value in task.expected)
    return (
        f"cluster {cluster.name}: {len(found)} workers ({devices}), {cluster.slots()} chunks at a time, all "
        f"with {alike}; files are read by the workers, under the same absolute names"
    )


def _open(address: str) -> Cluster:
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UsageError(
            f"--cluster {address!r}: expected dask:tcp://HOST:8786, dask:SCHEDULER.json or ray:auto"
        )
    return DaskCluster(match[2]) if match[1] == "dask" else RayCluster(match[2])
