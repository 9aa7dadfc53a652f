"""A Ray cluster that scans. Importing this module does not import Ray."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import Any

from bladescan.base.errors import BackendError, MissingDependencyError
from bladescan.base.records import ImageRecord
from bladescan.scanning.cluster_backend import (
    END_S,
    INSPECT_S,
    POLL_S,
    Call,
    Cluster,
    WorkerLostError,
    bounded,
    hush,
    ignore,
    one_line,
    scan_call,
    unwrapped,
)
from bladescan.scanning.cluster_worker import Inspection, WorkerTask, inspect_worker
from bladescan.scanning.workers import WORKER_DEATHS
from bladescan.sources.source import Source

KNOCK_S = 10.0
"""Longest wait for a Ray cluster's door; Dask's is bounded by its own setting."""
_logger = logging.getLogger(__name__)


class RayCluster(Cluster):
    """A Ray cluster: one actor for each of its CPUs at the start, restarted when they die."""

    def __init__(self, address: str) -> None:
        self.name = f"ray {address}"
        try:
            import ray
            from ray.util.joblib.ray_backend import RayBackend
        except ImportError as exc:
            raise MissingDependencyError("--cluster ray", "ray", "pip install 'bladescan[ray]'") from exc
        hush()
        self._ray = ray
        _logger.warning("connecting to cluster %s", self.name)
        try:
            _knock_at(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except (OSError, ValueError, RuntimeError) as exc:
            raise BackendError(f"cluster {self.name} cannot be reached: {one_line(exc)}") from exc
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
        """Count the chunks that run at the same time, see `Cluster`."""
        return self._n

    def inspect(self, task: WorkerTask) -> list[Inspection]:
        """Ask every worker whether it can take part, see `Cluster`."""
        # joblib's pool gives calls to its actors in turn: so many calls reach each of them once.
        handles = [
            self._backend.submit(Call([(inspect_worker, (task,), {})]), ignore) for _ in range(self._n)
        ]
        return [self._inspection(handle) for handle in handles]

    def submit(self, sources: Sequence[Source], task: WorkerTask) -> Any:
        """Hand out a chunk, see `Cluster`."""
        return self._backend.submit(scan_call(sources, task), ignore)

    def result(self, handle: Any) -> list[ImageRecord]:
        """Wait for a chunk, see `Cluster`."""
        try:
            while not handle.ready():  # in steps, between which a signal is heard
                handle.wait(POLL_S)
            answer = handle.get()
        except self._ray.exceptions.RayError as exc:
            raise WorkerLostError(one_line(exc)) from exc
        return unwrapped(self._backend, answer, self.name)

    def close(self, scan: str) -> None:
        """Leave the cluster as it was found, see `Cluster`."""
        bounded(
            self._ray.shutdown, END_S
        )  # the actors end with the driver that started them, and their decoders with them

    def _inspection(self, handle: Any) -> Inspection:
        try:
            (found,) = self._backend.retrieve_result_callback(handle.get(INSPECT_S))
        except Exception as exc:  # whatever an actor may have died of
            return Inspection("an actor", problem=one_line(exc))
        return found if isinstance(found, Inspection) else Inspection("an actor", problem="out of step")


def _knock_at(address: str) -> None:
    """Ray itself tries an address where nobody listens for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "//" not in host:
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()
