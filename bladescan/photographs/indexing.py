"""Filling the index of photographs: many at a time, in processes that may die.

It writes nothing but the index. What it says of a photograph depends on that photograph and the face finder
alone, not on the other files, the number of workers or the order.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import hashlib
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import cv2
import msgspec

from bladescan.base.errors import DataError, ImageError, UsageError
from bladescan.base.records import FaceBox, Reason
from bladescan.exif.tags import EXIF_TASKS, read_exif
from bladescan.faces.finders import FaceDetector, open_face_detector
from bladescan.images.reading import Limits, read_file, read_image
from bladescan.photographs.fdf import Note, Notes, tags_of
from bladescan.photographs.index import (
    MIN_PATCH_SIDE,
    Entry,
    FileStamp,
    Kind,
    Photograph,
    PhotographIndex,
    Pixels,
    Record,
    Tags,
    UnusableError,
    cut_face,
    cut_patch,
    encoded,
    whole_face,
)
from bladescan.photographs.workers import WorkerPool
from bladescan.tasks.pretext_tasks import TASKS, PretextTask, TaskKind

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


class Outcome(NamedTuple):
    """What one file came to.

    Attributes:
        digest: of its content; empty where it could not be read.
        kind: ``face``, ``patch`` or ``none``.
        reason: why it is left out, or None.
    """

    digest: str
    kind: Kind
    reason: str | None


class Answer(NamedTuple):
    """What a process says of one file.

    Attributes:
        outcome: what it came to.
        record: what is to be stored.
    """

    outcome: Outcome
    record: Record


class Task(NamedTuple):
    """One file to look at. Crosses processes.

    Attributes:
        path: its name.
        stamp: how it was found; None where it could not be looked up.
        note: what is said of it elsewhere, if anything.
    """

    path: str
    stamp: FileStamp | None
    note: Note | None


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker process is told with every task."""

    index: Path
    finder: str
    faces: str


Pool = WorkerPool[Task, "Answer | Reason"]


def open_index(path: Path, faces: str) -> PhotographIndex:
    """The index in a file, for the face finder that ``faces`` comes to on this machine.

    Raises:
        DataError: the file is not an index.
        BackendError: the face finder cannot be had.
        UnknownNameError: there is no such face finder.
    """
    return PhotographIndex(path, open_face_detector(faces).name)


def index_photographs(
    paths: Iterable[str | Path],
    index: PhotographIndex,
    faces: str,
    *,
    n_workers: int = 1,
    timeout_s: float = TIMEOUT_S,
    progress: Callable[[int], None] = lambda n: None,
) -> Indexed:
    """Read the photographs that the index does not know yet.

    A file that looks as it did when it was read (name, size, time of change) is not even opened again.

    Args:
        paths: the photographs.
        index: is added to, photograph by photograph.
        faces: name of the face finder, see `bladescan.faces.finders`; ``index.finder`` is its own.
        n_workers: processes that read; they change the speed, not the result.
        timeout_s: longest time for one photograph.
        progress: called with the number of photographs just done.

    Raises:
        DataError: no photograph has a usable face, or the index cannot be written.
        BackendError: the face finder cannot be had, or worker processes do not start.
    """
    used: dict[Kind, set[str]] = {"face": set(), "patch": set(), "none": set()}
    skipped: Counter[str] = Counter()
    job = Job(index.path, index.finder, faces)
    work, begin = functools.partial(index_file, job=job), functools.partial(_begin, job)
    with (
        WorkerPool(work, begin, n_workers, timeout_s) as pool,
        contextlib.closing(_outcomes(paths, index, pool)) as outcomes,
    ):
        for outcome in outcomes:
            reason = outcome.reason
            if reason is None and outcome.digest in used[outcome.kind]:
                reason = "duplicate"
            if reason is None:
                used[outcome.kind].add(outcome.digest)
            else:
                skipped[reason] += 1
            progress(1)
    if not used["face"]:
        reasons = [f"{n} {reason}" for reason, n in sorted(skipped.items())]
        reasons += [f"{len(used['patch'])} without a face"] if used["patch"] else []
        raise DataError(f"no photograph with a usable face ({', '.join(reasons) or 'no file listed'})")
    return Indexed(tuple(sorted(used["face"])), tuple(sorted(used["patch"])), dict(sorted(skipped.items())))


def _outcomes(
    paths: Iterable[str | Path], index: PhotographIndex, pool: Pool
) -> Generator[Outcome, None, None]:
    """One for each path, in any order: a slow photograph holds up no other."""
    files, known, notes = index.files(), index.known(), Notes()
    waiting: set[Future[Answer | Reason]] = set()
    with _Store(index) as store:
        for path in paths:
            task = _task(str(path), notes)
            digest = files.get(task.stamp, "") if task.stamp else ""
            if digest in known:
                yield Outcome(digest, *known[digest])
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

    def take(self, answer: Answer | Reason) -> Outcome:
        """Keep what is to be stored; what could not be read is not: the next run tries it again."""
        if isinstance(answer, Reason):
            return Outcome("", "none", answer.value)
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


def _task(path: str, notes: Notes) -> Task:
    note = notes.on(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return Task(path, None, note)  # the worker that reads it says why
    name = os.fsencode(os.path.abspath(path))
    return Task(path, FileStamp(name, status.st_size, status.st_mtime_ns, _note_digest(note)), note)


def _note_digest(note: Note | None) -> str:
    if note is None:
        return ""
    return hashlib.sha256(msgspec.json.encode(note, order="deterministic")).hexdigest()


# What was found


@dataclass(frozen=True, slots=True)
class TagSummary:
    """How often one tag is there, and with which values.

    Attributes:
        task: its name.
        kind: ``ordinal`` or ``categorical``.
        n_present: photographs that have it.
        n_missing: photographs that do not.
        counts: photographs by value: of a categorical tag for every class, of an ordinal one for ranges, in
            rising order; classes and ranges without a photograph are there, with 0.
        spread: smallest value, median and largest of an ordinal tag; None where there is no value.
    """

    task: str
    kind: str
    n_present: int
    n_missing: int
    counts: Mapping[str, int]
    spread: tuple[float, float, float] | None = None


class _Scale(NamedTuple):
    """How the values of an ordinal tag are read by people: upper ends of ranges, and how to write a value."""

    ends: tuple[float, ...]
    write: Callable[[float], str]


def _seconds(value: float) -> str:
    return f"{value:g} s" if value >= 0.3 else f"1/{1 / value:.0f} s"


_SCALES = {
    "iso_speed": _Scale((100, 200, 400, 800, 1600, 3200, 6400), "{:g}".format),
    "aperture": _Scale((2, 2.8, 4, 5.6, 8, 11, 16), "f/{:.3g}".format),
    "exposure_time": _Scale((1 / 2000, 1 / 1000, 1 / 500, 1 / 250, 1 / 125, 1 / 60, 1 / 30, 1 / 8), _seconds),
    "focal_length": _Scale((10, 24, 35, 50, 85, 135, 200), "{:.3g} mm".format),
}


def summarise(entries: Iterable[Entry]) -> list[TagSummary]:
    """Every EXIF tag over the photographs that are not left out, in the order of the tasks."""
    used = [entry for entry in entries if entry.reason is None]
    return [_tag_summary(TASKS[name], [entry.tags.get(name) for entry in used]) for name in EXIF_TASKS]


def _tag_summary(task: PretextTask, values: Sequence[float | str | None]) -> TagSummary:
    present = [value for value in values if value is not None]
    n_missing = len(values) - len(present)
    if task.kind is TaskKind.CATEGORICAL:
        counted = Counter(present)
        counts = {name: counted[name] for name in task.classes}
        return TagSummary(task.name, task.kind.value, len(present), n_missing, counts)
    numbers = sorted(float(value) for value in present)
    scale = _SCALES[task.name]
    # Cameras round: 1/60 s is also written 0.01667.
    places = Counter(bisect.bisect_left([end * 1.001 for end in scale.ends], x) for x in numbers)
    names = [f"to {scale.write(end)}" for end in scale.ends] + [f"above {scale.write(scale.ends[-1])}"]
    counts = {name: places[i] for i, name in enumerate(names)}
    spread = (numbers[0], statistics.median(numbers), numbers[-1]) if numbers else None
    return TagSummary(task.name, task.kind.value, len(present), n_missing, counts, spread)


def format_summary(rows: Iterable[TagSummary]) -> str:
    """The rows as a table for people, one line a tag."""
    lines = [("tag", "have", "missing", "values")]
    for row in rows:
        lines.append((row.task, str(row.n_present), str(row.n_missing), _values(row)))
    widths = [max(len(line[i]) for line in lines) for i in range(3)]
    return "\n".join(
        f"{line[0]:<{widths[0]}}  {line[1]:>{widths[1]}}  {line[2]:>{widths[2]}}  {line[3]}" for line in lines
    )


def _values(row: TagSummary) -> str:
    if row.spread is not None:
        low, median, high = (_SCALES[row.task].write(value) for value in row.spread)
        return f"{low} to {high}, median {median}"
    most = sorted(row.counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {n}" for name, n in most if n) or "none"


def format_totals(entries: Iterable[Entry]) -> str:
    """Numbers of faces, patches and camera models in one line."""
    used = [entry for entry in entries if entry.reason is None]
    kinds = Counter(entry.kind for entry in used)
    models = len({entry.camera for entry in used} - {""})
    tagged = sum(1 for entry in used if len(entry.tags) == len(EXIF_TASKS))
    return (
        f"faces {kinds['face']}, patches of photographs without a face {kinds['patch']}, "
        f"camera models {models}, with all nine tags {tagged}"
    )


# In a worker process


@functools.lru_cache(maxsize=1)
def _opened(job: Job) -> tuple[PhotographIndex, FaceDetector]:
    """The index and the face finder, kept for the next photograph.

    Raises:
        UsageError: it is not the face finder that the index is for.
    """
    finder = open_face_detector(job.faces)
    if finder.name != job.finder:
        raise UsageError(
            f"the index is for the face finder {job.finder!r}, but {job.faces!r} is {finder.name!r}"
        )
    return PhotographIndex(job.index, job.finder), finder


def _begin(job: Job) -> None:
    cv2.setNumThreads(0)  # parallelism comes from several processes
    _opened(job)


def index_file(task: Task, job: Job) -> Answer | Reason:
    """Read one file, unless its content is in the index already: the unit of work of a process.

    Returns:
        What there is to store, or why the file could not be read.
    """
    index, finder = _opened(job)
    try:
        data = read_file(task.path, Limits(), listed=True)
    except ImageError as exc:
        return exc.reason
    digest = content_digest(data, task.note)
    found = index.knows(digest)
    if found is not None:
        return Answer(Outcome(digest, *found), Record(digest, None, task.stamp))
    photograph, reason = _read(data, task.note, finder)
    kind = photograph.kind if photograph else "none"
    return Answer(Outcome(digest, kind, reason), Record(digest, encoded(photograph, reason), task.stamp))


def content_digest(data: bytes, note: Note | None) -> str:
    """SHA-256 of a file's bytes, and of what is said of it elsewhere where something is."""
    digest = hashlib.sha256(data)
    return (
        digest.hexdigest()
        if note is None
        else hashlib.sha256(digest.digest() + _note_digest(note).encode()).hexdigest()
    )


def _read(data: bytes, note: Note | None, finder: FaceDetector) -> tuple[Photograph | None, str | None]:
    try:
        return read_photograph(data, note, finder), None
    except ImageError as exc:
        return None, exc.reason.value
    except UnusableError as exc:
        return None, str(exc)
    except MemoryError:
        return None, Reason.DECODER_CRASHED.value


def read_photograph(data: bytes, note: Note | None, finder: FaceDetector) -> Photograph:
    """An image file's face, or where there is none that is usable and it has a tag, its patch.

    Args:
        data: the file's bytes.
        note: its box and tags go before those that are found in the bytes.
        finder: looks for a face where the note has none.

    Raises:
        ImageError: the file cannot be decoded.
        UnusableError: it gives neither; the text is the reason.
    """
    tags, camera = _tags(data, note)
    image = next(read_image(data, Limits()).frames)[1]
    try:
        photograph = cut_face(image, finder) if note is None or note.box is None else _noted(image, note.box)
    except UnusableError as exc:
        if not tags or str(exc) == "drawing" or min(image.shape[:2]) < MIN_PATCH_SIDE:
            raise
        photograph = cut_patch(image)
    return replace(photograph, tags=tags, camera=camera)


def _noted(image: Pixels, shares: tuple[float, float, float, float]) -> Photograph:
    """The face of a picture whose box stands elsewhere, as shares of its width and height."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = (min(max(share, 0.0), 1.0) for share in shares)
    if x0 >= x1 or y0 >= y1:
        raise UnusableError("bad-box")
    return whole_face(image, FaceBox(x0 * width, y0 * height, x1 * width, y1 * height, 1.0))


def _tags(data: bytes, note: Note | None) -> tuple[Tags, str]:
    if note is not None and note.fields is not None:
        return tags_of(note.fields)
    exif = read_exif(data)
    return exif.tags, exif.camera
