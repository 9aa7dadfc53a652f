"""Bytes to oriented RGB pictures, within limits.

It opens files and no network, knows nothing of faces, and raises nothing but `ImageError` whatever the bytes
hold. A decoder may still take long or kill its process: time limits and processes that may die are the
business of the caller. ``docs/formats.md`` states every rule; the wall between Pillow and the rest is
`_pillow_edge`.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from bladescan.base.errors import ImageError, UsageError
from bladescan.base.records import Reason
from bladescan.images.colour import to_rgb
from bladescan.images.formats import (
    DEFAULT_FORMATS,
    OPTIONAL_FORMATS,
    allowed_format,
    count_frames,
    ends_early,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

MOST_BYTES = 4_000_000_000
"""Largest value of ``Limits.max_bytes``: a message to a decoder process tells its length in 32 bits."""

MAX_PLAYED_FRAMES = 2_000
"""Frames or pages that may have to be passed to reach the last one that is looked at."""

MAX_SCANS = 20
"""Passes of a JPEG of the largest size over its pixels; a smaller one may have more. Encoders write ten."""

# Without a handler of its own Pillow's logger prints errors about broken tags on stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be spent on one image. The pixel limits apply before anything is decoded.

    Attributes:
        max_bytes: largest file in bytes.
        max_pixels: largest frame in pixels. Decoding peaks at about 12 bytes per pixel. Pillow itself refuses
            to go beyond 178,956,970, which gives the same reason.
        max_frames: how many frames of an animation or pages of a document are looked at.
        max_total_pixels: pixels of all the frames that have to be decoded to reach those, together.
        min_side: smallest width and height in pixels.
        formats: names of the formats that may be opened.
    """

    max_bytes: int = 100_000_000
    max_pixels: int = 100_000_000
    max_frames: int = 8
    max_total_pixels: int = 500_000_000
    min_side: int = 16
    formats: frozenset[str] = DEFAULT_FORMATS

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "max_frames", "max_total_pixels", "min_side"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_bytes > MOST_BYTES:
            raise UsageError(f"max_bytes must be at most {MOST_BYTES}, got {self.max_bytes}")
        known = DEFAULT_FORMATS | OPTIONAL_FORMATS
        if unknown := sorted(self.formats - known):
            raise UsageError(f"unknown image format {unknown[0]!r}. Available: {', '.join(sorted(known))}.")


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image whose first frame is decoded; the others are decoded as they are asked for.

    Attributes:
        format: as the decoder names it, for example ``JPEG``, or ``MPO`` for a multi-picture JPEG.
        width, height: of the first frame in pixels, oriented.
        n_frames: frames in the file, of which `pictures` yields at most ``Limits.max_frames``.
        pictures: (index of the frame in the file, RGB picture, oriented and loaded), once through.
            Raises ImageError where a later frame cannot be read.
    """

    format: str
    width: int
    height: int
    n_frames: int
    pictures: Iterator[tuple[int, Image.Image]]

    @property
    def frames(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """`pictures` as read-only uint8 ``[h, w, 3]``. Who needs Pillow's form saves the copy."""
        return ((index, np.asarray(picture)) for index, picture in self.pictures)


# --------------------------------------------------------------------------------------------------- reading


def read_file(path: str, limits: Limits, *, listed: bool = False) -> bytes:
    """The whole of a regular file, never more than ``limits.max_bytes``, without blocking on a FIFO.

    Args:
        path: its name; bytes that are not UTF-8 as surrogate escapes.
        limits: ``max_bytes`` is used.
        listed: whether the name came from a listing, so that a missing file has *vanished*.

    Raises:
        ImageError: not-found, vanished, permission-denied, not-a-file, too-many-bytes, empty or read-error.
    """
    try:
        # Looking before opening: to open a device may already do something to it.
        _check_regular(os.stat(path))
    except (OSError, ValueError) as exc:
        raise _os_error(exc, missing=Reason.VANISHED if listed else Reason.NOT_FOUND) from exc
    try:
        return _read_regular(path, limits.max_bytes)
    except OSError as exc:
        raise _os_error(exc, missing=Reason.VANISHED) from exc


def _read_regular(path: str, max_bytes: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(fd, "rb", buffering=0) as file:
        status = os.fstat(fd)
        _check_regular(status)  # the name may lead elsewhere by now
        _check_bytes(status.st_size, max_bytes)
        chunks, size = [], 0
        # The size is a hint only: files grow, and those of /proc say 0.
        while chunk := file.read(max(status.st_size - size, 65536)):
            chunks.append(chunk)
            size += len(chunk)
            _check_bytes(size, max_bytes)
    data = b"".join(chunks)
    _check_not_empty(data)
    return data


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
    }
    kind = kinds.get(stat.S_IFMT(status.st_mode), "something else")
    raise ImageError(Reason.NOT_A_FILE, f"expected a regular file, found {kind}")


def _check_bytes(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ImageError(Reason.TOO_MANY_BYTES, f"{size} bytes or more; the limit is {max_bytes}")


def _check_not_empty(data: bytes) -> None:
    if not data:
        raise ImageError(Reason.EMPTY, "the file has no bytes")


def _os_error(exc: OSError | ValueError, *, missing: Reason) -> ImageError:
    if not isinstance(exc, OSError):  # a NUL, or a surrogate that stands for no byte
        return ImageError(missing, f"no file can have this name: {exc}")
    reasons = {
        errno.ENOENT: missing,
        errno.ENOTDIR: missing,
        errno.ENAMETOOLONG: missing,
        errno.ESTALE: Reason.VANISHED,
        errno.EACCES: Reason.PERMISSION_DENIED,
        errno.EPERM: Reason.PERMISSION_DENIED,
        errno.EISDIR: Reason.NOT_A_FILE,
        errno.ENXIO: Reason.NOT_A_FILE,
    }
    return ImageError(reasons.get(exc.errno or 0, Reason.READ_ERROR), exc.strerror or type(exc).__name__)


# -------------------------------------------------------------------------------------------------- decoding


def read_image(data: bytes, limits: Limits) -> DecodedImage:
    """Decode an image; its first frame now, the others when they are asked for.

    Raises:
        ImageError: empty, too-many-bytes, not-an-image, format-not-allowed, too-many-pixels,
            too-many-frames, too-small, truncated or corrupt.
    """
    _check_not_empty(data)
    _check_bytes(len(data), limits.max_bytes)
    kind = allowed_format(data, limits.formats)
    with _pillow_edge(kind, data):
        image = Image.open(io.BytesIO(data), formats=(kind,))
        _check_size(image, limits)
        _check_scans(image, data, limits)
        n_frames = count_frames(image, data)
        indices = _frames_to_look_at(image, n_frames, limits)
        orientation = 1
        first = to_rgb(_loaded(image))
        if image.format not in _ORIENTED_BY_DECODER:
            # After loading, because in a PNG the tag may follow the pixels.
            orientation = _orientation(image)
            first = _orient(first, orientation)
        first = _apart(first, image, indices)
    pictures = _pictures(image, data, first, indices, orientation, limits)
    return DecodedImage(image.format or kind, first.width, first.height, n_frames, pictures)


def _pictures(
    image: ImageFile,
    data: bytes,
    first: Image.Image,
    indices: list[int],
    orientation: int,
    limits: Limits,
) -> Iterator[tuple[int, Image.Image]]:
    yield indices[0], first
    del first  # not kept while the others are decoded
    for index in indices[1:]:
        with _pillow_edge(image.format or "", data, frame=index):
            image.seek(index)
            _check_pixels(*image.size, limits)
            picture = _apart(_orient(to_rgb(_loaded(image)), orientation), image, indices)
        yield index, picture


def _loaded(image: ImageFile) -> ImageFile:
    image.load()
    return image


def _apart(picture: Image.Image, image: ImageFile, indices: list[int]) -> Image.Image:
    """The picture, or a copy of it if it is the file's own and would turn into the next frame."""
    return picture.copy() if picture is image and len(indices) > 1 else picture


@contextmanager
def _pillow_edge(kind: str, data: bytes, frame: int = 0) -> Iterator[None]:
    """Turn whatever a decoder raises into ImageError, and keep its warnings from the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except ImageError:
            raise
        # Pillow lets a dozen unrelated types out, AssertionError and MemoryError among them.
        except Exception as exc:
            where = f"frame {frame} of the {kind}" if frame else kind
            raise ImageError(_reason(exc, kind, data), f"{where}: {_one_line(exc)}") from exc


_CUT_SHORT = ("truncated", "not enough image data", "unexpected end", "no data found", "buffer is not large")


def _reason(exc: Exception, kind: str, data: bytes) -> Reason:
    if isinstance(exc, (Image.DecompressionBombError, MemoryError)):
        return Reason.TOO_MANY_PIXELS
    text = str(exc).lower()
    cut_short = isinstance(exc, EOFError) or any(sign in text for sign in _CUT_SHORT)
    return Reason.TRUNCATED if cut_short or ends_early(kind, data) else Reason.CORRUPT


def _one_line(exc: Exception) -> str:
    if isinstance(exc, UnidentifiedImageError):  # its own text names a Python object
        return "its header cannot be read"
    text = "".join(c if c.isprintable() else " " for c in str(exc))
    return (" ".join(text.split()) or type(exc).__name__)[:200]


def _check_size(image: ImageFile, limits: Limits) -> None:
    width, height = image.size
    _check_pixels(width, height, limits)
    if min(width, height) < limits.min_side:
        raise ImageError(Reason.TOO_SMALL, f"{width} x {height} pixels; the least side is {limits.min_side}")


def _check_scans(image: ImageFile, data: bytes, limits: Limits) -> None:
    """A JPEG may go over its pixels thousands of times, in few bytes."""
    if image.format not in ("JPEG", "MPO"):
        return
    n_scans = data.count(b"\xff\xda")  # those of its previews too, which are few
    if n_scans * max(image.width * image.height, 1 << 16) > MAX_SCANS * limits.max_pixels:
        raise ImageError(
            Reason.TOO_MANY_PIXELS, f"JPEG: {n_scans} scans of {image.width} x {image.height} pixels"
        )


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise ImageError(
            Reason.TOO_MANY_PIXELS, f"{width} x {height} = {width * height}; the limit is {limits.max_pixels}"
        )


# ---------------------------------------------------------------------------------------------------- frames

_FIRST_PICTURE_ONLY = frozenset({"MPO", "HEIF"})


def _frames_to_look_at(image: ImageFile, n_frames: int, limits: Limits) -> list[int]:
    """Indices of the frames to decode, ascending, spread evenly, with the first and the last.

    The last is the last one within `MAX_PLAYED_FRAMES` and ``max_total_pixels``: to show a frame of an
    animation, all the frames before it have to be decoded. Pages of a TIFF stand alone, so only those
    looked at count.
    """
    if image.format in _FIRST_PICTURE_ONLY:
        return [image.tell()]
    affordable = max(1, limits.max_total_pixels // (image.width * image.height))
    reachable = min(n_frames, MAX_PLAYED_FRAMES)
    if image.format != "TIFF":
        reachable = min(reachable, affordable)
    count = min(reachable, limits.max_frames, affordable)
    return [round(i * (reachable - 1) / max(1, count - 1)) for i in range(count)]


# ----------------------------------------------------------------------------------------------- orientation

_ORIENTED_BY_DECODER = frozenset({"TIFF", "HEIF"})

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: ImageFile) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read.

    For AVIF Pillow puts the container's rotation in its place, so it too is applied once.
    """
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        return int(value) if value in _TRANSPOSE else 1
    except Exception:  # broken metadata must not lose a readable picture
        return 1


def _orient(image: Image.Image, orientation: int) -> Image.Image:
    method = _TRANSPOSE.get(orientation)
    return image if method is None else image.transpose(method)
