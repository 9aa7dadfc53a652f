"""Filling the index of photographs: many at a time, in processes that may die.

It writes nothing but the index. What it says of a photograph depends on that photograph and the face finder
alone, not on the other files, the number of workers or the order.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from bladescan.base.errors import DataError
from bladescan.base.records import Reason
from bladescan.photographs.faceless import NO_FACES, open_finder
from bladescan.photographs.flickr_diverse_faces import Annotations
from bladescan.photographs.index import FileStamp, PhotographIndex, Record
from bladescan.photographs.photograph import PhotographKind
from bladescan.photographs.photograph_files import (
    INDEXING,
    FileAnswer,
    FileOutcome,
    IndexJob,
    ListedFile,
    annotation_digest,
)
from bladescan.processes.pool import WorkerPool

TIMEOUT_S = 60.0
"""Longest time for one photograph."""

AHEAD = 4
"""Photographs handed out for each worker, at most."""

FLUSH_S = 0.5
"""So often what was found is written: a kill costs no more, and the disk is not waited for each time."""


class Indexed(NamedTuple):
    """What indexing came to.

    Attributes:
        faces: SHA-256 of the photographs with a usable face, sorted, each once.
        patches: the same of those without, that have a tag and texture.
        skipped: the others, by reason.
    """

    faces: tuple[str, ...]
    patches: tuple[str, ...]
    skipped: dict[str, int]


Pool = WorkerPool[IndexJob, None, ListedFile, "FileAnswer | Reason"]


def open_index(path: Path, faces: str, generated: frozenset[str] | None = None) -> PhotographIndex:
    """Open the index in a file, for the face finder that ``faces`` comes to on this machine.

    Args:
        path: of the file.
        faces: name of the face finder.
        generated: see `PhotographIndex`.

    Raises:
        DataError: the file is not an index.
        BackendError: the face finder cannot be had.
        UnknownNameError: there is no such face finder.
    """
    return PhotographIndex(path, open_finder(faces).name, generated)


def index_photographs(
    paths: Iterable[str | Path],
    index: PhotographIndex,
    faces: str,
    *,
    n_workers: int = 1,
    timeout_s: float = TIMEOUT_S,
    progress: Callable[[int], None] = lambda n: None,
    what: str = "photograph",
) -> Indexed:
    """Read the photographs that the index does not know yet.

    A file that looks as it did when it was read (name, size, time of change) is not even opened again.

    Args:
        paths: the photographs.
        index: is added to, photograph by photograph.
        faces: name of the face finder, see `bladescan.photographs.faceless.open_finder`; ``index.finder`` is
            its own.
        n_workers: processes that read; they change the speed, not the result.
        timeout_s: longest time for one photograph.
        progress: called with the number of photographs just done.
        what: to call one in the error.

    Raises:
        DataError: no photograph has a usable face, or the index cannot be written.
        BackendError: the face finder cannot be had, or worker processes do not start.
    """
    tally = _Tally(index.finder, what)
    job = IndexJob(os.fsencode(index.path), index.finder, faces)
    with (
        WorkerPool(n_workers, INDEXING, job, timeout_s) as pool,
        contextlib.closing(_outcomes(paths, index, pool)) as outcomes,
    ):
        for outcome in outcomes:
            tally.add(outcome)
            progress(1)
    return tally.indexed()


class _Tally:
    """What the files came to so far, each content counted once."""

    def __init__(self, finder: str, what: str) -> None:
        self._what = what
        self._wanted: PhotographKind = "patch" if finder == NO_FACES else "face"
        self._used: dict[PhotographKind, set[str]] = {"face": set(), "patch": set(), "none": set()}
        self._skipped: Counter[str] = Counter()

    def add(self, outcome: FileOutcome) -> None:
        """Count one file."""
        used = self._used[outcome.kind]
        reason = outcome.reason or ("duplicate" if outcome.digest in used else None)
        if reason is None:
            used.add(outcome.digest)
        else:
            self._skipped[reason] += 1

    def indexed(self) -> Indexed:
        """Close the count.

        Raises:
            DataError: there is no face, or no patch where none is looked for.
        """
        faces, patches = sorted(self._used["face"]), sorted(self._used["patch"])
        if not self._used[self._wanted]:
            reasons = [f"{n} {reason}" for reason, n in sorted(self._skipped.items())]
            reasons += [f"{len(patches)} without a face"] if patches else []
            missing = "a usable face" if self._wanted == "face" else "EXIF and texture"
            raise DataError(f"no {self._what} with {missing} ({', '.join(reasons) or 'no file listed'})")
        return Indexed(tuple(faces), tuple(patches), dict(sorted(self._skipped.items())))


def _outcomes(
    paths: Iterable[str | Path], index: PhotographIndex, pool: Pool
) -> Generator[FileOutcome, None, None]:
    """Yield the outcome of each path, in any order: a slow photograph holds up no other."""
    files, known, annotations = index.files(), index.known(), Annotations()
    waiting: set[Future[FileAnswer | Reason]] = set()
    with _Store(index) as store:
        for path in paths:
            task = _listed_file(str(path), annotations)
            digest = files.get(task.stamp, "") if task.stamp else ""
            if digest in known:
                yield FileOutcome(digest, *known[digest])
                continue
            waiting.add(pool.submit(task))
            if len(waiting) > AHEAD * pool.n:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (store.take(future.result()) for future in done)
        for future in as_completed(waiting):
            yield store.take(future.result())


class _Store:
    """Writes what was found to the index, now and then and at the end, however that comes."""

    def __init__(self, index: PhotographIndex) -> None:
        self._index = index
        self._records: list[Record] = []
        self._written_s = -FLUSH_S

    def take(self, answer: FileAnswer | Reason) -> FileOutcome:
        """Keep what is to be stored; what could not be read is not: the next run tries it again."""
        if isinstance(answer, Reason):
            return FileOutcome("", "none", answer.value)
        self._records.append(answer.record)
        if time.monotonic() - self._written_s >= FLUSH_S:
            self.flush()
        return answer.outcome

    def flush(self) -> None:
        """Write."""
        records, self._records = self._records, []
        if records:
            self._index.add_all(records)
        self._written_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()


def _listed_file(path: str, annotations: Annotations) -> ListedFile:
    name, annotation = os.fsencode(path), annotations.of(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ListedFile(name, None, annotation)  # the worker that reads it says why
    place, digest = os.fsencode(os.path.abspath(path)), annotation_digest(annotation)
    return ListedFile(name, FileStamp(place, status.st_size, status.st_mtime_ns, digest), annotation)
