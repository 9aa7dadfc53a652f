"""The index of photographs to learn from, and the examples drawn from it.

The index is one SQLite file: for every photograph, keyed by the SHA-256 of its bytes, the largest face with
some context around it, its box and its five landmarks. It is filled once, survives a kill, and is used
again by every later run. Nothing in it can run code.

Manipulation comes first, on the face as it was stored; then augmentation, the same for untouched and
manipulated faces, so that compression, size and sharpness say nothing about the label.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from bladescan import manipulations
from bladescan.errors import DataError, ImageError
from bladescan.faces import FaceDetector, landmarks_in
from bladescan.images import Limits, read_file, read_image
from bladescan.recipe import AugmentationRecipe, ManipulationRecipe
from bladescan.records import CROP_SIZE, FaceBox

CONTEXT = 1.8
"""Side of the stored square in face sides: room for crops of 1.3 that are shifted and scaled."""

MAX_STORED_SIDE = 320
MIN_STORED_SIDE = 96
FLAT_LIMIT = 0.35
"""A face with this share of perfectly flat pixels is a drawing or a cut-out, not a photograph."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS photograph (
    digest TEXT NOT NULL, finder TEXT NOT NULL, reason TEXT,
    pixels BLOB, x0 REAL, y0 REAL, x1 REAL, y1 REAL, landmarks BLOB,
    PRIMARY KEY (digest, finder))
"""
_INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


@dataclass(frozen=True, slots=True, eq=False)
class Photograph:
    """One face with context.

    Attributes:
        pixels: RGB ``[h, w, 3]``, at most `MAX_STORED_SIDE` on a side.
        box: x0, y0, x1, y1 in pixels of ``pixels``.
        landmarks: ``[5, 2]``, see `bladescan.manipulations.Landmarks`.
    """

    pixels: NDArray[np.uint8]
    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float32]


class Indexed(NamedTuple):
    """What indexing came to.

    Attributes:
        digests: SHA-256 of the photographs with a usable face, sorted, each once.
        skipped: the others, by reason.
    """

    digests: tuple[str, ...]
    skipped: dict[str, int]


class _Unusable(Exception):
    """A photograph that is left out; its text is the reason."""


class PhotographIndex:
    """The index file. It may be opened in many processes; each has its own connection.

    Args:
        path: of the file; made if missing.
        finder: name of the face finder: faces found by another one are not used.

    Raises:
        DataError: the file is not an index.
    """

    def __init__(self, path: Path, finder: str) -> None:
        self.path, self.finder = path, finder
        try:
            with closing(self._connect()) as db, db:
                db.execute(_SCHEMA)
        except sqlite3.Error as exc:
            raise DataError(f"{path}: cannot be used as an index of photographs: {exc}") from exc

    def add(self, digest: str, photograph: Photograph | None, reason: str | None = None) -> None:
        """Store a photograph, or why there is none."""
        row: tuple[object, ...] = (digest, self.finder, reason, None, None, None, None, None, None)
        if photograph is not None:
            # PNG at its fastest: lossless, a third of the raw size.
            png = cv2.imencode(".png", photograph.pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
            landmarks = photograph.landmarks.astype("<f4").tobytes()
            row = (digest, self.finder, None, png, *photograph.box, landmarks)
        with closing(self._connect()) as db, db:
            db.execute("INSERT OR REPLACE INTO photograph VALUES (?,?,?,?,?,?,?,?,?)", row)

    def known(self) -> dict[str, str | None]:
        """Every digest of this finder, with the reason it is unusable or None."""
        with closing(self._connect()) as db:
            return dict(db.execute("SELECT digest, reason FROM photograph WHERE finder = ?", (self.finder,)))

    def get(self, digest: str) -> Photograph:
        """Read one photograph.

        Raises:
            DataError: it is not there.
        """
        query = "SELECT pixels, x0, y0, x1, y1, landmarks FROM photograph WHERE digest = ? AND finder = ?"
        with closing(self._connect()) as db:
            row = db.execute(query, (digest, self.finder)).fetchone()
        if row is None or row[0] is None:
            raise DataError(f"{self.path}: holds no face of the photograph {digest[:12]}")
        pixels = cv2.imdecode(np.frombuffer(row[0], np.uint8), cv2.IMREAD_COLOR)
        landmarks = np.frombuffer(row[5], "<f4").reshape(5, 2).astype(np.float32)
        return Photograph(np.asarray(pixels, np.uint8), (row[1], row[2], row[3], row[4]), landmarks)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60)


def index_photographs(
    paths: Iterable[str | Path],
    index: PhotographIndex,
    finder: FaceDetector,
    *,
    progress: Callable[[int], None] = lambda n: None,
) -> Indexed:
    """Find the faces of photographs that the index does not know yet.

    Args:
        paths: the photographs.
        index: is added to, photograph by photograph.
        finder: gives the boxes; where it has no landmarks, they are found in its boxes.
        progress: called with the number of photographs just done.

    Raises:
        DataError: no photograph has a usable face.
    """
    known = index.known()
    used: set[str] = set()
    skipped: Counter[str] = Counter()
    for path in paths:
        digest, reason = _index_one(str(path), index, finder, known)
        if reason is None and digest in used:
            reason = "duplicate"
        if reason is None:
            used.add(digest)
        else:
            skipped[reason] += 1
        progress(1)
    if not used:
        listed = ", ".join(f"{n} {reason}" for reason, n in sorted(skipped.items())) or "no file listed"
        raise DataError(f"no photograph with a usable face ({listed})")
    return Indexed(tuple(sorted(used)), dict(sorted(skipped.items())))


def _index_one(
    path: str, index: PhotographIndex, finder: FaceDetector, known: dict[str, str | None]
) -> tuple[str, str | None]:
    """Digest and reason of one file; unreadable files have a reason and no place in the index."""
    try:
        data = read_file(path, Limits())
    except ImageError as exc:
        return "", exc.reason.value
    digest = hashlib.sha256(data).hexdigest()
    if digest not in known:
        photograph, reason = None, None
        try:
            photograph = cut_face(data, finder)
        except (_Unusable, ImageError) as exc:
            reason = exc.reason.value if isinstance(exc, ImageError) else str(exc)
        index.add(digest, photograph, reason)
        known[digest] = reason
    return digest, known[digest]


def cut_face(data: bytes, finder: FaceDetector) -> Photograph:
    """The largest face of an image file with its context.

    Raises:
        ImageError: the file cannot be decoded.
        Exception: there is no usable face; the text is the reason.
    """
    image = next(read_image(data, Limits()).frames)[1]
    boxes = finder.find(image)
    if not boxes:
        raise _Unusable("no-face")
    face = max(boxes, key=lambda box: box.side)
    landmarks = face.landmarks or landmarks_in(image, face)
    if landmarks is None:
        raise _Unusable("no-landmarks")
    photograph = _with_context(image, face, landmarks)
    if min(photograph.pixels.shape[:2]) < MIN_STORED_SIDE:
        raise _Unusable("face-too-small")
    if flat_share(photograph) >= FLAT_LIMIT:
        raise _Unusable("drawing")
    return photograph


def flat_share(photograph: Photograph) -> float:
    """Share of the face's pixels that equal their right and their lower neighbour."""
    face = cv2.cvtColor(square(photograph.pixels, photograph.box, 1.0), cv2.COLOR_RGB2GRAY)
    right, below = face[:-1, 1:] == face[:-1, :-1], face[1:, :-1] == face[:-1, :-1]
    return float((right & below).mean()) if right.size else 1.0


def square(
    pixels: NDArray[np.uint8],
    box: Sequence[float],
    scale: float,
    shift: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.uint8]:
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


def _with_context(
    image: NDArray[np.uint8], face: FaceBox, points: tuple[tuple[float, float], ...]
) -> Photograph:
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


def augment(
    pixels: NDArray[np.uint8], box: Sequence[float], recipe: AugmentationRecipe, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Crop as a scan does, a little differently each time, and let the picture pass through the world.

    Args:
        pixels: RGB with context ``[h, w, 3]``, unchanged.
        box: the face in it.
        recipe: probabilities and ranges.
        rng: the only source of chance. The draws do not depend on the pixels, so two versions of one face
            that get equal generators get equal augmentation.

    Returns:
        ``[window, window, 3]``.
    """
    dx, dy = rng.uniform(-recipe.shift, recipe.shift, 2)
    x = square(pixels, box, rng.uniform(*recipe.scale), (dx, dy))
    side = CROP_SIZE
    if rng.random() < recipe.rescale:
        side = round(float(np.exp(rng.uniform(*np.log(recipe.rescale_side)))))
    x = _resized(x, side, rng)
    if rng.random() < recipe.blur:
        x = np.asarray(cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 1.2)), np.uint8)
    if rng.random() < recipe.noise:
        x = _clipped(x + rng.normal(0, rng.uniform(1, 4), x.shape))
    x = _compressed(x, recipe, rng)
    x = _compressed(_resized(x, CROP_SIZE, rng), recipe, rng)
    x = _window(x, recipe.window, rng)
    if rng.random() < recipe.flip:
        x = x[:, ::-1]
    if rng.random() < recipe.colour:
        x = _recoloured(x, rng)
    return np.ascontiguousarray(x)


def _resized(x: NDArray[np.uint8], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    kernel = _INTERPOLATIONS[rng.integers(len(_INTERPOLATIONS))]
    return np.asarray(cv2.resize(x, (side, side), interpolation=kernel), np.uint8)


def _compressed(
    x: NDArray[np.uint8], recipe: AugmentationRecipe, rng: np.random.Generator
) -> NDArray[np.uint8]:
    if rng.random() >= recipe.jpeg:
        return x
    low, high = recipe.jpeg_quality
    bgr = np.ascontiguousarray(x[..., ::-1])  # JPEG halves the colour channels: it must know which is which
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(low, high + 1))])[1]
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]


def _window(x: NDArray[np.uint8], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    room = CROP_SIZE - side
    reach = min(room // 2, CROP_SIZE // 16)
    top, left = room // 2 + rng.integers(-reach, reach + 1, 2)
    return x[top : top + side, left : left + side]


def _recoloured(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    out = x.astype(np.float32)
    if rng.random() < 0.15:
        out = np.repeat(out.mean(2, keepdims=True), 3, 2)
    out = (out - 128) * rng.uniform(0.75, 1.25) + 128 + rng.uniform(-25, 25)
    return _clipped(out * rng.uniform(0.93, 1.07, 3))


def _clipped(x: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.clip(np.round(x), 0, 255).astype(np.uint8)


class Batch(NamedTuple):
    """Examples and their truth.

    Attributes:
        pixels: uint8 ``[b, window, window, 3]``.
        coarse: int64 ``[b]``, 1 where manipulated.
        fine: float32 ``[b, 3]``.
    """

    pixels: Tensor
    coarse: Tensor
    fine: Tensor


class Examples(Dataset[Batch]):
    """Seeded examples: item (epoch, i) is the same whoever asks, whenever.

    Args:
        index: where the photographs are.
        digests: which of them.
        manipulation: what is drawn.
        augmentation: what befalls all.
        seed: of every example.
    """

    def __init__(
        self,
        index: PhotographIndex,
        digests: Sequence[str],
        manipulation: ManipulationRecipe,
        augmentation: AugmentationRecipe,
        seed: int,
    ) -> None:
        self.index, self.digests, self.seed = index, tuple(digests), seed
        self.manipulation, self.augmentation = manipulation, augmentation

    def __len__(self) -> int:
        return len(self.digests)

    def __getitem__(self, item: tuple[int, int]) -> Batch:
        """One example, or with ``pairs`` the untouched and the manipulated face, augmented alike."""
        epoch, i = item
        photograph = self.index.get(self.digests[i])
        rng = np.random.default_rng((self.seed, epoch, i))
        drawn = self._draw(photograph, rng)
        augmentation_seed = int(rng.integers(2**62))
        pixels = [
            augment(e.pixels, photograph.box, self.augmentation, np.random.default_rng(augmentation_seed))
            for e in drawn
        ]
        return Batch(
            torch.from_numpy(np.stack(pixels)),
            torch.tensor([int(e.manipulated) for e in drawn]),
            torch.tensor([e.labels for e in drawn], dtype=torch.float32),
        )

    def _draw(self, photograph: Photograph, rng: np.random.Generator) -> list[manipulations.Example]:
        pixels, landmarks, names = photograph.pixels, photograph.landmarks, self.manipulation.names
        if not self.manipulation.pairs:
            return [manipulations.draw(pixels, landmarks, rng, names)]
        name = str(rng.choice(list(names)))
        return [manipulations.apply(n, pixels, landmarks, rng) for n in (manipulations.UNTOUCHED, name)]


def collate(items: Sequence[Batch]) -> Batch:
    """Items of `Examples`, one after the other, as one batch."""
    return Batch(*(torch.cat(parts) for parts in zip(*items, strict=True)))
