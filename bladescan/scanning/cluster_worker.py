"""What runs on the machines of a cluster: a check that they are alike, and scanners kept between chunks.

A worker's process may run several chunks at once, in threads. Each thread borrows a scanner of its own; it
is closed when the scan ends, or when nobody has borrowed it for a while: a cluster outlives its scans, and
decoder processes must not.
"""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import bladescan
from bladescan import __version__
from bladescan.base.errors import BackendError, BladescanError
from bladescan.base.records import ImageRecord
from bladescan.detectors.shipped import shipped_detector
from bladescan.faces.finders import finder_packages, weight_files
from bladescan.provenance.credentials import library_version
from bladescan.provenance.reading import reader_digest
from bladescan.runtimes.registry import get_plugin, plugin_files
from bladescan.scanning.decoder_process import ProvenanceSettings
from bladescan.scanning.pipeline import Pipeline, ScanSettings
from bladescan.sources.addresses import is_url, parse_url
from bladescan.sources.buckets import open_store
from bladescan.sources.source import Source

IDLE_S = 60.0
"""A scanner that nobody has borrowed for so long is closed."""
DECIDING = ("pillow", "pillow-heif", "numpy")
"""Packages whose version may change a row, whatever the backend and the face finder."""


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """What every worker is told with every chunk.

    Attributes:
        scan: tells this scan from any other on the same cluster.
        settings: of the scan; its face finder is named, never ``auto``.
        shipped: by detector: each machine takes the one of this file name that ships with its own package.
        expected: the environment of the machine that asked, see `environment`.
    """

    scan: str
    settings: ScanSettings
    shipped: tuple[bool, ...]
    expected: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one worker says of itself.

    Attributes:
        worker: host and process.
        device: where the detector runs there.
        problem: why it cannot take part; empty when all is well.
    """

    worker: str
    device: str = ""
    problem: str = ""


def environment(settings: ScanSettings) -> tuple[tuple[str, str], ...]:
    """Name all that decides a row besides the image, in a fixed order: code, weights and versions.

    Raises:
        BladescanError: the backend or the face finder is not installed.
    """
    faces = settings.decoder.faces
    packages = DECIDING + finder_packages(faces)
    return (
        ("bladescan", f"{__version__} (code {_code()})"),
        ("Python", ".".join(platform.python_version_tuple()[:2])),
        ("detector", _digest(settings.files)),
        *((f"backend {name}", _backend(name)) for name in settings.backends),
        (f"face finder {faces}", _digest(weight_files(faces))),
        *_reading(settings.decoder.provenance),
        *((name, _version(name)) for name in packages),
    )


def _backend(name: str) -> str:
    runtime = get_plugin(name).status().version or "none"
    return f"{runtime} (code {_digest(plugin_files(name))})"


def _reading(settings: ProvenanceSettings | None) -> tuple[tuple[str, str], ...]:
    """Name what decides what is read of files' own statements, if they are read."""
    if settings is None:
        return ()
    reader = f"c2pa-python {library_version() or 'none'}, {reader_digest(settings.trust_list)}"
    return (("reader of provenance", reader),)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@cache
def _code() -> str:
    """Two states of a checkout have one version number; their verdicts may differ all the same."""
    return _digest(sorted(Path(bladescan.__file__).parent.rglob("*.py")))


def _digest(paths: Sequence[Path]) -> str:
    """SHA-256 of files' names and contents; where they lie may differ from machine to machine."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as exc:
            return f"{path}: {exc.strerror}"
        digest.update(os.fsencode(path.name) + b"\0" + hashlib.sha256(content).digest())
    return f"sha256 {digest.hexdigest()[:16]}"


def resolve(task: WorkerTask) -> ScanSettings:
    """Adapt the settings to this machine: a shipped detector lies elsewhere on each."""
    if not any(task.shipped):
        return task.settings
    named = zip(task.settings.files, task.shipped, strict=True)
    return task.settings.with_files([_shipped(file) if here else file for file, here in named])


def _shipped(file: Path) -> Path:
    return shipped_detector(file.stem, (file.suffix,))


def differences(task: WorkerTask) -> str:
    """Describe how this machine differs from the one that asked; empty if it does not."""
    here = dict(environment(resolve(task)))
    found = [(name, here.get(name, "none"), wanted) for name, wanted in task.expected]
    told = [f"{name} {have}, expected {wanted}" for name, have, wanted in found if have != wanted]
    if any(name == "detector" and have != wanted for name, have, wanted in found) and not all(task.shipped):
        told.append("--model must be at the same path on every worker: a shared folder or the same image")
    return "; ".join(told)


def inspect_worker(task: WorkerTask) -> Inspection:
    """Check that this process can scan as the one that asked would. Never raises a `BladescanError`."""
    try:
        with _KEPT.lent(task) as scanner:
            return Inspection(whoami(), scanner.backend.device)
    except BladescanError as exc:
        return Inspection(whoami(), problem=str(exc))


def opened_buckets(sources: Iterable[Source]) -> tuple[str, ...]:
    """List a URL of each bucket among the sources that this process finds credentials and a library for."""
    first = {parse_url(s.name).root: s.name for s in sources if s.problem is None and is_url(s.name)}
    return tuple(url for url in first.values() if not _why_closed(url))


def _why_closed(url: str) -> str:
    try:
        open_store(parse_url(url))
    except BladescanError as exc:
        return str(exc)
    return ""


def scan_for_cluster(
    sources: Sequence[Source], task: WorkerTask, buckets: tuple[str, ...] = ()
) -> list[ImageRecord]:
    """Scan a chunk of sources in a worker of a cluster.

    Args:
        sources: the chunk.
        task: of the scan.
        buckets: see `opened_buckets`, of the machine that asked: what it can open, this one must, too.

    Raises:
        BackendError: this machine is not like the one that asked, or the scan has ended.
    """
    for why in filter(None, map(_why_closed, buckets)):
        raise BackendError(f"the worker {whoami()} cannot open what this machine opens: {why}")
    with _KEPT.lent(task) as scanner:
        return list(scanner.scan(sources))


def end_scan(scan: str) -> None:
    """Close what this process keeps for a scan; a chunk that still runs for it fails at once."""
    _KEPT.end(scan)


def whoami() -> str:
    """Name this process for an error."""
    return f"{socket.gethostname()} (process {os.getpid()})"


@dataclass(slots=True)
class _Kept:
    task: WorkerTask
    scanner: Pipeline
    since: float = 0.0


class _Scanners:
    """The scanners of this process, one for each thread that scans at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Kept] = []
        self._busy: list[_Kept] = []
        self._ended: deque[str] = deque(maxlen=100)
        self._watched = False

    @contextmanager
    def lent(self, task: WorkerTask) -> Iterator[Pipeline]:
        """Lend a pipeline to one caller; one that failed is not kept."""
        kept = self._take(task)
        try:
            yield kept.scanner
        except BaseException:
            with self._lock:
                self._busy.remove(kept)
            kept.scanner.close()
            raise
        self._give_back(kept)

    def end(self, scan: str) -> None:
        """Close all of one scan, also what is lent."""
        with self._lock:
            self._ended.append(scan)
            idle = [kept for kept in self._idle if kept.task.scan == scan]
            self._idle = [kept for kept in self._idle if kept.task.scan != scan]
            busy = [kept for kept in self._busy if kept.task.scan == scan]
        for kept in idle + busy:
            kept.scanner.close()

    def _take(self, task: WorkerTask) -> _Kept:
        with self._lock:
            self._refuse_ended(task)
            for kept in self._idle:
                if kept.task == task:
                    self._idle.remove(kept)
                    self._busy.append(kept)
                    return kept
        return self._open(task)

    def _open(self, task: WorkerTask) -> _Kept:
        different = differences(task)
        if different:
            raise BackendError(different)
        kept = _Kept(task, Pipeline(resolve(task)))
        try:
            with self._lock:
                self._refuse_ended(task)
                self._busy.append(kept)
        except BaseException:
            kept.scanner.close()
            raise
        return kept

    def _refuse_ended(self, task: WorkerTask) -> None:
        if task.scan in self._ended:
            raise BackendError("the scan has ended")

    def _give_back(self, kept: _Kept) -> None:
        kept.since = time.monotonic()
        with self._lock:
            self._busy.remove(kept)
            ended = kept.task.scan in self._ended
            if not ended:
                self._idle.append(kept)
            start, self._watched = not self._watched and not ended, self._watched or not ended
        if ended:
            kept.scanner.close()
        if start:
            threading.Thread(target=self._watch, daemon=True, name="idle scanners").start()

    def _watch(self) -> None:
        """Close what is idle for too long; end when nothing is kept."""
        while True:
            time.sleep(IDLE_S / 6)
            old = time.monotonic() - IDLE_S
            with self._lock:
                closing = [kept for kept in self._idle if kept.since < old]
                self._idle = [kept for kept in self._idle if kept.since >= old]
                self._watched = bool(self._idle or self._busy)
                watched = self._watched
            for kept in closing:
                kept.scanner.close()
            if not watched:
                return


_KEPT = _Scanners()
