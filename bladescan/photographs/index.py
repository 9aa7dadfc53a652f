"""Photographs to learn from, and the one file that keeps them: the index.

The index is one SQLite file. For every photograph, keyed by the SHA-256 of its content, it holds the EXIF
tags, the camera, and either the largest face with some context around it, its box and its five landmarks, or,
where there is no face, a patch with texture. It survives a kill and is used again by every later run. Nothing
in it can run code. How it is filled, many photographs at a time, is the business of `indexing`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError
from bladescan.base.records import FaceBox
from bladescan.faces.finders import FaceDetector
from bladescan.faces.mtcnn import landmarks_in

CONTEXT = 1.8
"""Side of the stored square in face sides: room for crops of 1.3 that are shifted and scaled."""

MAX_STORED_SIDE = 320
MIN_STORED_SIDE = 96
FLAT_LIMIT = 0.35
"""A face with this share of perfectly flat pixels is a drawing or a cut-out, not a photograph."""

PATCH_SIDE = 512
"""Largest side of a patch in pixels; it is cut out, never resized."""
MIN_PATCH_SIDE = 256
"""Least side of a picture that gives a patch: room for a 224-pixel square that is shifted and scaled."""
BLOCK = 16
"""Side in pixels of the blocks in which texture is looked for."""
TEXTURE_DEVIATION = 2.5
"""A block whose luminance deviates by more than this (of 255) has texture."""
MIN_TEXTURED_SHARE = 0.15
"""A patch in which fewer blocks have texture is flat: sky, or black."""

SCHEMA_VERSION = 2
"""Of the tables, and of how tags are read and faces and patches are cut: a new one fills every index anew."""
APPLICATION_ID = 0x62736978
"""What marks an SQLite file as an index of photographs."""

Pixels = NDArray[np.uint8]
Tags = Mapping[str, float | str]
"""By task name: a number where the task is ordinal, the name of a class where it is categorical."""
Kind = Literal["face", "patch", "none"]

_SCHEMA = """
CREATE TABLE photograph (
    digest TEXT NOT NULL, finder TEXT NOT NULL, kind TEXT NOT NULL, reason TEXT,
    tags TEXT NOT NULL, camera TEXT NOT NULL,
    pixels BLOB, x0 REAL, y0 REAL, x1 REAL, y1 REAL, landmarks BLOB,
    PRIMARY KEY (digest, finder));
CREATE TABLE file (
    path BLOB NOT NULL PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, note TEXT NOT NULL,
    digest TEXT NOT NULL);
"""
_FIRST_SCHEMA_COLUMNS = "digest finder reason pixels x0 y0 x1 y1 landmarks".split()


@dataclass(frozen=True, slots=True, eq=False)
class Photograph:
    """One photograph to learn from: a face with context, or a patch of a picture without a face.

    Attributes:
        pixels: RGB ``[h, w, 3]``; a face has at most `MAX_STORED_SIDE` on a side, a patch `PATCH_SIDE`.
        box: x0, y0, x1, y1 of the face in pixels of ``pixels``; None for a patch.
        landmarks: ``[5, 2]``, see `bladescan.pretext.manipulations.Landmarks`; None for a patch.
        tags: EXIF by task name, see `bladescan.exif.tags.Exif`; what is missing has no key.
        camera: normalised make and model, empty where unknown.
    """

    pixels: Pixels
    box: tuple[float, float, float, float] | None = None
    landmarks: NDArray[np.float32] | None = None
    tags: Tags = field(default_factory=dict)
    camera: str = ""

    @property
    def kind(self) -> Kind:
        """``face`` or ``patch``."""
        return "patch" if self.box is None else "face"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index says of one photograph, without its pixels.

    Attributes:
        digest: its key.
        kind: ``face``, ``patch``, or ``none`` where it gave neither.
        tags: EXIF by task name.
        camera: make and model, empty where unknown.
        reason: why it is left out, None where it is not.
    """

    digest: str
    kind: Kind
    tags: Tags
    camera: str
    reason: str | None


class FileStamp(NamedTuple):
    """How a file was found. One that still looks the same is not read again.

    Attributes:
        path: absolute, in the file system's own bytes.
        size: in bytes.
        mtime_ns: time of its last change.
        note: digest of what is said of it elsewhere, empty where nothing is.
    """

    path: bytes
    size: int
    mtime_ns: int
    note: str = ""


Row = tuple[object, ...]
"""A photograph as the file holds it, without its key."""


class Record(NamedTuple):
    """What there is to store of one photograph. Crosses processes.

    Attributes:
        digest: its key.
        row: from `encoded`; None where the index has it already.
        file: which file it was, to be known again; None if that is not to be kept.
    """

    digest: str
    row: Row | None
    file: FileStamp | None


def encoded(photograph: Photograph | None, reason: str | None = None) -> Row:
    """A photograph, or why there is none, as a row."""
    if photograph is None:
        return ("none", reason, "{}", "", None, None, None, None, None, None)
    # PNG at its fastest: lossless, a third of the raw size.
    bgr = cv2.cvtColor(photograph.pixels, cv2.COLOR_RGB2BGR)
    png = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    marks = None if photograph.landmarks is None else photograph.landmarks.astype("<f4").tobytes()
    tags = json.dumps(dict(photograph.tags), allow_nan=False)
    box = photograph.box or (None, None, None, None)
    return (photograph.kind, None, tags, photograph.camera, png, *box, marks)


class UnusableError(Exception):
    """A photograph that is left out; its text is the reason. Never leaves the modules of the index."""


class PhotographIndex:
    """The index file. It may be opened in many processes at once; every call has its own connection.

    An index of an earlier version is a cache and no more: it is emptied, and ``notice`` says so.

    Args:
        path: of the file; made if missing.
        finder: name of the face finder: faces found by another one are not used.

    Attributes:
        notice: one line for the user, or empty.

    Raises:
        DataError: the file is not an index, or is one of a later version.
    """

    def __init__(self, path: Path, finder: str) -> None:
        self.path, self.finder = path, finder
        with self._open() as db:
            self.notice = _prepare(db, path)

    def add(self, digest: str, photograph: Photograph | None, reason: str | None = None) -> None:
        """Store a photograph, or why there is none."""
        self.add_all([Record(digest, encoded(photograph, reason), None)])

    def add_all(self, records: Iterable[Record]) -> None:
        """Store records, all or none: to wait for the disk once is much quicker than once for each."""
        columns = ",".join("?" * 12)
        with self._open() as db, db:
            for digest, row, file in records:
                if row is not None:
                    values = (digest, self.finder, *row)
                    db.execute(f"INSERT OR REPLACE INTO photograph VALUES ({columns})", values)
                if file is not None:
                    db.execute("INSERT OR REPLACE INTO file VALUES (?,?,?,?,?)", (*file, digest))

    def files(self) -> dict[FileStamp, str]:
        """Digest of the content of every file that was read, as it was found then."""
        with self._open() as db:
            rows = db.execute("SELECT path, size, mtime_ns, note, digest FROM file").fetchall()
        return {FileStamp(*stamp): digest for *stamp, digest in rows}

    def known(self) -> dict[str, tuple[Kind, str | None]]:
        """Kind and reason of every photograph of this finder, by digest."""
        with self._open() as db:
            query = "SELECT digest, kind, reason FROM photograph WHERE finder = ?"
            return {digest: (kind, reason) for digest, kind, reason in db.execute(query, (self.finder,))}

    def knows(self, digest: str) -> tuple[Kind, str | None] | None:
        """Kind and reason of one photograph, None if it is not in the index."""
        query = "SELECT kind, reason FROM photograph WHERE digest = ? AND finder = ?"
        with self._open() as db:
            found: tuple[Kind, str | None] | None = db.execute(query, (digest, self.finder)).fetchone()
        return found

    def entries(self) -> list[Entry]:
        """All photographs of this finder, also those left out, in order of their digests."""
        query = "SELECT digest, kind, tags, camera, reason FROM photograph WHERE finder = ? ORDER BY digest"
        with self._open() as db:
            rows = db.execute(query, (self.finder,)).fetchall()
        return [
            Entry(digest, kind, json.loads(tags), camera, reason)
            for digest, kind, tags, camera, reason in rows
        ]

    def get(self, digest: str) -> Photograph:
        """Read one photograph.

        Raises:
            DataError: it is not there.
        """
        columns = "pixels, x0, y0, x1, y1, landmarks, tags, camera"
        query = f"SELECT {columns} FROM photograph WHERE digest = ? AND finder = ?"
        with self._open() as db:
            row = db.execute(query, (digest, self.finder)).fetchone()
        if row is None or row[0] is None:
            raise DataError(f"{self.path}: holds neither face nor patch of the photograph {digest[:12]}")
        png, x0, y0, x1, y1, marks, tags, camera = row
        bgr = np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), np.uint8)
        pixels = np.ascontiguousarray(bgr[..., ::-1])
        if x0 is None:
            return Photograph(pixels, None, None, json.loads(tags), camera)
        landmarks = np.frombuffer(marks, "<f4").reshape(-1, 2).astype(np.float32)
        return Photograph(pixels, (x0, y0, x1, y1), landmarks, json.loads(tags), camera)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=60)) as db:
                yield db
        except sqlite3.Error as exc:
            raise DataError(f"{self.path}: cannot be used as an index of photographs: {exc}") from exc


def _prepare(db: sqlite3.Connection, path: Path) -> str:
    """Make the tables if need be; returns what there is to say of it."""
    if _version(db, path) == SCHEMA_VERSION:
        return ""
    db.isolation_level = None
    db.execute("BEGIN IMMEDIATE")  # several runs may come here at once
    version = _version(db, path)
    if version != SCHEMA_VERSION:
        db.execute("DROP TABLE IF EXISTS photograph")
        db.execute("DROP TABLE IF EXISTS file")
        for statement in _SCHEMA.strip().split(";")[:-1]:
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")
    old = version in range(1, SCHEMA_VERSION)
    return f"{path}: made by an earlier version; it is filled anew" if old else ""


def _version(db: sqlite3.Connection, path: Path) -> int:
    """Schema version of a file, 0 of an empty one.

    Raises:
        DataError: it is something else, or newer.
    """
    (application,), (version,) = (
        db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if application == APPLICATION_ID and version > SCHEMA_VERSION:
        raise DataError(f"{path}: an index of a later version of bladescan; use that version or another file")
    if application == APPLICATION_ID:
        return int(version)
    if not tables and not application and not version:
        return 0
    columns = [row[1] for row in db.execute("PRAGMA table_info(photograph)")]
    if tables == {"photograph"} and columns == _FIRST_SCHEMA_COLUMNS:
        return 1
    raise DataError(f"{path}: cannot be used as an index of photographs: it is another program's database")


# Cutting


def cut_face(image: Pixels, finder: FaceDetector) -> Photograph:
    """The largest face of a picture with its context; no tags.

    Args:
        image: RGB ``[h, w, 3]``.
        finder: gives the boxes; where it has no landmarks, they are found in its boxes.

    Raises:
        UnusableError: there is no usable face.
    """
    boxes = finder.find(image)
    if not boxes:
        raise UnusableError("no-face")
    return cut_box(image, max(boxes, key=lambda box: box.side))


def cut_box(image: Pixels, face: FaceBox) -> Photograph:
    """A face whose box is known, with its context; no tags.

    Raises:
        UnusableError: it is not usable.
    """
    landmarks = face.landmarks or landmarks_in(image, face)
    if landmarks is None:
        raise UnusableError("no-landmarks")
    photograph = _with_context(image, face, landmarks)
    if min(photograph.pixels.shape[:2]) < MIN_STORED_SIDE:
        raise UnusableError("face-too-small")
    if photograph.box and flat_share(photograph.pixels, photograph.box) >= FLAT_LIMIT:
        raise UnusableError("drawing")
    return photograph


def whole_face(image: Pixels, face: FaceBox) -> Photograph:
    """A picture that is a face and its context already; no tags.

    Raises:
        UnusableError: it is not usable.
    """
    if min(image.shape[:2]) < MIN_STORED_SIDE:
        raise UnusableError("face-too-small")
    if max(image.shape[:2]) > MAX_STORED_SIDE:
        return cut_box(image, face)
    landmarks = face.landmarks or landmarks_in(image, face)
    if landmarks is None:
        raise UnusableError("no-landmarks")
    box = (face.x0, face.y0, face.x1, face.y1)
    return Photograph(np.array(image, np.uint8), box, np.array(landmarks, np.float32))


def cut_patch(image: Pixels) -> Photograph:
    """The square of a picture that has most texture, at its own resolution; no tags.

    Args:
        image: RGB ``[h, w, 3]``, at least a block on each side; less than `MIN_PATCH_SIDE` is of little use.

    Raises:
        UnusableError: it is flat wherever one looks.
    """
    textured = textured_blocks(image)
    rows, columns = (min(PATCH_SIDE // BLOCK, n) for n in textured.shape)
    # Shares of every window of so many blocks, by its upper left block.
    sums = cv2.integral(textured.astype(np.uint8))
    shares = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    top, left = np.unravel_index(int(shares.argmax()), shares.shape)
    if shares[top, left] < MIN_TEXTURED_SHARE * rows * columns:
        raise UnusableError("flat")
    y, x = int(top) * BLOCK, int(left) * BLOCK
    patch = image[y : y + rows * BLOCK, x : x + columns * BLOCK]
    return Photograph(np.array(patch, np.uint8))


def textured_blocks(image: Pixels) -> NDArray[np.bool_]:
    """Which blocks of a picture are not flat, ``[h // BLOCK, w // BLOCK]``."""
    n_rows, n_columns = (n // BLOCK for n in image.shape[:2])
    whole = np.ascontiguousarray(image[: n_rows * BLOCK, : n_columns * BLOCK])
    grey = cv2.cvtColor(whole, cv2.COLOR_RGB2GRAY).astype(np.float32)
    # Shrinking by whole blocks is the mean over each block.
    mean, square_mean = (
        np.asarray(cv2.resize(x, (n_columns, n_rows), interpolation=cv2.INTER_AREA), np.float32)
        for x in (grey, grey**2)
    )
    return np.asarray(square_mean - mean**2 > TEXTURE_DEVIATION**2, np.bool_)


def flat_share(pixels: Pixels, box: Sequence[float]) -> float:
    """Share of the face's pixels that equal their right and their lower neighbour."""
    face = cv2.cvtColor(square(pixels, box, 1.0), cv2.COLOR_RGB2GRAY)
    right, below = face[:-1, 1:] == face[:-1, :-1], face[1:, :-1] == face[:-1, :-1]
    return float((right & below).mean()) if right.size else 1.0


def square(
    pixels: Pixels,
    box: Sequence[float],
    scale: float,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Pixels:
    """A square of ``scale`` face sides about the box's centre, clipped to the image: a view.

    Args:
        pixels: RGB ``[h, w, 3]``.
        box: x0, y0, x1, y1 in pixels.
        scale: side, in longer sides of the box.
        shift: of the centre, in sides of the square.
    """
    side = scale * max(box[2] - box[0], box[3] - box[1])
    x = (box[0] + box[2] - side) / 2 + shift[0] * side
    y = (box[1] + box[3] - side) / 2 + shift[1] * side
    height, width = pixels.shape[:2]
    rows = slice(max(0, round(y)), max(1, min(height, round(y + side))))
    columns = slice(max(0, round(x)), max(1, min(width, round(x + side))))
    return pixels[rows, columns]


def _with_context(image: Pixels, face: FaceBox, points: tuple[tuple[float, float], ...]) -> Photograph:
    corners = np.array([face.x0, face.y0, face.x1, face.y1])
    side = CONTEXT * face.side
    # The same rounding as `square`, whose origin is needed for box and landmarks.
    left = max(0, round((face.x0 + face.x1 - side) / 2))
    top = max(0, round((face.y0 + face.y1 - side) / 2))
    cut = square(image, corners.tolist(), CONTEXT)
    factor = min(1.0, MAX_STORED_SIDE / max(cut.shape[:2]))
    size = (max(1, round(cut.shape[1] * factor)), max(1, round(cut.shape[0] * factor)))
    pixels = cut if factor == 1 else cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
    origin = np.array([left, top])
    x0, y0, x1, y1 = ((corners - np.tile(origin, 2)) * factor).tolist()
    landmarks = (np.array(points) - origin) * factor
    return Photograph(np.array(pixels, np.uint8), (x0, y0, x1, y1), landmarks.astype(np.float32))
