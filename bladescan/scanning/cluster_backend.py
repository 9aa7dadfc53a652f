"""The processes of a cluster, as `bladescan.scanning.cluster` uses them, behind joblib's backend for each.

joblib's backends are used without its ``Parallel``, which would hand out chunks as fast as they finish
instead of as fast as their rows are taken, scan in this process where the cluster has one slot, and wait for
ever on a chunk that its scheduler gives up.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bladescan.base.errors import BackendError, BladescanError
from bladescan.base.logs import wants_debug
from bladescan.base.records import ImageRecord
from bladescan.scanning.cluster_worker import Inspection, WorkerTask, opened_buckets, scan_for_cluster
from bladescan.sources.source import Source

POLL_S = 2.0
"""How often a wait for a chunk looks whether there is still a cluster."""
INSPECT_S = 180.0
"""Longest wait until every worker has loaded the detector."""
END_S = 5.0
"""Longest wait for the workers' goodbye."""
_NOISY = ("distributed", "tornado", "asyncio", "ray")


class WorkerLostError(Exception):
    """Worker after worker died on a chunk."""


@dataclass(frozen=True, slots=True)
class Call:
    """Calls in the shape that joblib's backends take: ``(function, arguments, keywords)`` each."""

    items: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]

    def __call__(self) -> list[Any]:
        """Make the calls."""
        return [function(*arguments, **keywords) for function, arguments, keywords in self.items]


def scan_call(sources: Sequence[Source], task: WorkerTask) -> Call:
    """Make the call that scans a chunk in a worker."""
    return Call([(scan_for_cluster, (sources, task, opened_buckets(sources)), {})])


class Cluster(ABC):
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
            WorkerLostError: workers died on it as often as the cluster allows.
            BackendError: a worker refused, or there is no cluster any more.
        """

    @abstractmethod
    def close(self, scan: str) -> None:
        """Take back what is not done, and have the workers forget the scan."""


def hush() -> None:
    """Silence the libraries' own logs, which say in many lines what an error of ours says in one."""
    if not wants_debug():
        for name in [*logging.root.manager.loggerDict, *_NOISY]:
            if name.partition(".")[0] in _NOISY:
                logging.getLogger(name).setLevel(logging.CRITICAL)


def ignore(_: object) -> None:
    """Do nothing: results are taken from their futures."""


def unwrapped(backend: Any, answer: Any, name: str) -> list[ImageRecord]:
    """Take the records of a chunk out of an answer, or raise the error that ended it."""
    if isinstance(answer, BladescanError):  # a worker's own word
        raise BackendError(f"cluster {name}: {answer}") from answer
    if isinstance(answer, BaseException):  # how joblib hands on that a chunk was cancelled
        raise BackendError(f"cluster {name}: a chunk was cancelled; the scheduler is gone") from answer
    records: list[ImageRecord]
    (records,) = backend.retrieve_result_callback(answer)
    return records


def one_line(exc: BaseException) -> str:
    """Put what an error says on one line."""
    return " ".join(str(exc).split()) or type(exc).__name__


def bounded(call: Callable[[], Any], timeout_s: float) -> Any:
    """Wait for a call's result; None when it does not come in time."""
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
