"""From one file to what the index stores of it, in a worker process."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import msgspec

from bladescan.base.errors import ImageError, UsageError
from bladescan.base.records import FaceBox, Reason
from bladescan.exif.tags import Exif, read_exif
from bladescan.faces.finders import FaceFinder
from bladescan.images.decoding import decode_image
from bladescan.images.files import read_file
from bladescan.images.limits import Limits
from bladescan.photographs.cutting import MIN_PATCH_SIDE, UnusableError, cut_face, cut_patch, whole_face
from bladescan.photographs.faceless import open_finder
from bladescan.photographs.flickr_diverse_faces import Annotation, exif_of
from bladescan.photographs.index import FileStamp, PhotographIndex, Record, encoded
from bladescan.photographs.photograph import Photograph, PhotographKind, Pixels
from bladescan.processes.service import Service


class FileOutcome(NamedTuple):
    """What one file came to.

    Attributes:
        digest: of its content; empty where it could not be read.
        kind: ``face``, ``patch`` or ``none``.
        reason: why it is left out, or None.
    """

    digest: str
    kind: PhotographKind
    reason: str | None


class FileAnswer(NamedTuple):
    """The answer of a worker process for one file.

    Attributes:
        outcome: what it came to.
        record: what is to be stored.
    """

    outcome: FileOutcome
    record: Record


class ListedFile(msgspec.Struct, frozen=True):
    """One file to look at. Crosses processes.

    Attributes:
        path: its name, in the file system's own bytes.
        stamp: how it was found; None where it could not be looked up.
        annotation: its box and tags where another file has them.
    """

    path: bytes
    stamp: FileStamp | None
    annotation: Annotation | None


class IndexJob(msgspec.Struct, frozen=True):
    """What every worker process is told before its first file.

    Attributes:
        index: file of the index, in the file system's own bytes.
        finder: name of the face finder that the index is for.
        faces: the face finder as it was asked for; must come to ``finder``.
    """

    index: bytes
    finder: str
    faces: str


def annotation_digest(annotation: Annotation | None) -> str:
    """Hash an annotation by SHA-256; empty for none."""
    if annotation is None:
        return ""
    return hashlib.sha256(msgspec.json.encode(annotation, order="deterministic")).hexdigest()


def _begin(job: IndexJob) -> tuple[None, Callable[[ListedFile], FileAnswer | Reason]]:
    """Open the index and the face finder.

    Raises:
        UsageError: it is not the face finder that the index is for.
    """
    cv2.setNumThreads(0)  # parallelism comes from several processes
    finder = open_finder(job.faces)
    if finder.name != job.finder:
        raise UsageError(
            f"the index is for the face finder {job.finder!r}, but {job.faces!r} is {finder.name!r}"
        )
    index = PhotographIndex(Path(os.fsdecode(job.index)), job.finder)
    return None, partial(index_file, index=index, finder=finder)


def index_file(task: ListedFile, index: PhotographIndex, finder: FaceFinder) -> FileAnswer | Reason:
    """Read one file, unless its content is in the index already: the unit of work of a process.

    Returns:
        What there is to store, or why the file could not be read.
    """
    try:
        data = read_file(os.fsdecode(task.path), Limits(), listed=True)
    except ImageError as exc:
        return exc.reason
    digest = content_digest(data, task.annotation)
    found = index.knows(digest)
    if found is not None:
        return FileAnswer(FileOutcome(digest, *found), Record(digest, None, task.stamp))
    photograph, reason = _read(data, task.annotation, finder)
    kind = photograph.kind if photograph else "none"
    return FileAnswer(
        FileOutcome(digest, kind, reason), Record(digest, encoded(photograph, reason), task.stamp)
    )


def content_digest(data: bytes, annotation: Annotation | None) -> str:
    """Hash a file's bytes by SHA-256, together with its annotation where it has one."""
    digest = hashlib.sha256(data)
    if annotation is not None:
        digest = hashlib.sha256(digest.digest() + annotation_digest(annotation).encode())
    return digest.hexdigest()


def _read(
    data: bytes, annotation: Annotation | None, finder: FaceFinder
) -> tuple[Photograph | None, str | None]:
    try:
        return read_photograph(data, annotation, finder), None
    except ImageError as exc:
        return None, exc.reason.value
    except UnusableError as exc:
        return None, str(exc)
    except MemoryError:
        return None, Reason.DECODER_CRASHED.value


def read_photograph(data: bytes, annotation: Annotation | None, finder: FaceFinder) -> Photograph:
    """Cut out an image file's face or, where there is none that is usable and it has a tag, its patch.

    Args:
        data: the file's bytes.
        annotation: its box and tags go before those that are found in the bytes.
        finder: looks for a face where the annotation has none.

    Raises:
        ImageError: the file cannot be decoded.
        UnusableError: it gives neither; the text is the reason.
    """
    exif = _exif(data, annotation)
    image = next(decode_image(data, Limits()).frames)[1]
    try:
        box = None if annotation is None else annotation.box
        photograph = cut_face(image, finder) if box is None else _annotated_face(image, box)
    except UnusableError as exc:
        if not exif.tags or str(exc) == "drawing" or min(image.shape[:2]) < MIN_PATCH_SIDE:
            raise
        photograph = cut_patch(image)
    return replace(photograph, tags=exif.tags, camera=exif.camera)


def _annotated_face(image: Pixels, shares: tuple[float, float, float, float]) -> Photograph:
    """Cut out the face of a picture whose box is annotated, in shares of its width and height."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = (min(max(share, 0.0), 1.0) for share in shares)
    if x0 >= x1 or y0 >= y1:
        raise UnusableError("bad-box")
    return whole_face(image, FaceBox(x0 * width, y0 * height, x1 * width, y1 * height, 1.0))


def _exif(data: bytes, annotation: Annotation | None) -> Exif:
    if annotation is not None and annotation.fields is not None:
        return exif_of(annotation.fields)
    return read_exif(data)


INDEXING: Service[IndexJob, None, ListedFile, FileAnswer | Reason] = Service(
    name=f"{__name__}:INDEXING",
    begin=_begin,
    lost=lambda lost: lost.reason,
    settings=IndexJob,
    ready=None,
    request=ListedFile,
    answer=FileAnswer | Reason,
    most_growth=512 << 20,  # the picture is here as pixels of several kinds
)
