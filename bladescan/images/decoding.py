"""From bytes to upright RGB pictures, within limits. It opens no file and knows nothing of faces.

Whatever the bytes hold, nothing is raised but `ImageError`; `_pillow_edge` is the wall between Pillow and the
rest. A decoder may still take long or kill its process: the caller needs time limits and processes that may
die. ``docs/formats.md`` states every rule.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from bladescan.base.errors import ImageError
from bladescan.base.records import Reason
from bladescan.images.colour import to_rgb
from bladescan.images.formats import allowed_format, count_frames, ends_early, facts_of
from bladescan.images.jpeg_markers import count_scans
from bladescan.images.limits import Limits, check_bytes, check_not_empty
from bladescan.images.opening import open_image, orientation_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

MAX_PLAYED_FRAMES = 2_000
"""Most frames or pages that are decoded to reach the last one that is looked at."""

MAX_SCANS = 20
"""Passes of a JPEG of the largest size over its pixels; a smaller one may have more. Encoders write ten."""

# Without a handler of its own Pillow's logger prints errors about broken tags on stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image whose first frame is decoded; the others are decoded as they are asked for.

    Attributes:
        format: as the decoder names it, for example ``JPEG``, or ``MPO`` for a multi-picture JPEG.
        width, height: of the first frame in pixels, oriented.
        n_frames: frames in the file, of which `pictures` yields at most ``Limits.max_frames``.
        n_seen: how many that is.
        pictures: an iterator to be used once, of (index of the frame in the file, RGB picture, oriented and
            loaded). Raises ImageError if a later frame cannot be read.
    """

    format: str
    width: int
    height: int
    n_frames: int
    n_seen: int
    pictures: Iterator[tuple[int, Image.Image]]

    @property
    def frames(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """`pictures` as read-only uint8 ``[h, w, 3]``; Pillow's form saves a copy."""
        return ((index, np.asarray(picture)) for index, picture in self.pictures)


def decode_image(data: bytes, limits: Limits) -> DecodedImage:
    """Decode an image: its first frame now, the others when they are asked for.

    Raises:
        ImageError: empty, too-many-bytes, not-an-image, format-not-allowed, too-many-pixels,
            too-many-frames, too-small, truncated or corrupt.
    """
    check_not_empty(data)
    check_bytes(len(data), limits.max_bytes)
    kind = allowed_format(data, limits.formats)
    with _pillow_edge(kind, data):
        image = open_image(kind, data)
        _check_size(image, limits)
        _check_scans(image, data, limits)
        n_frames = count_frames(image, data)
        indices = _frames_to_look_at(image, n_frames, limits)
        first = _apart(_upright(image), image, indices)
    pictures = _pictures(image, data, first, indices, limits)
    return DecodedImage(image.format or kind, first.width, first.height, n_frames, len(indices), pictures)


def _pictures(
    image: ImageFile, data: bytes, first: Image.Image, indices: list[int], limits: Limits
) -> Iterator[tuple[int, Image.Image]]:
    yield indices[0], first
    del first  # not kept while the others are decoded
    for index in indices[1:]:
        with _pillow_edge(image.format or "", data, frame=index):
            image.seek(index)
            _check_pixels(*image.size, limits)
            picture = _apart(_upright(image), image, indices)
        yield index, picture


def _upright(image: ImageFile) -> Image.Image:
    """Decode the present frame, make it RGB, and turn it upright."""
    image.load()
    picture = to_rgb(image)
    if facts_of(image.format).is_turned_upright:
        return picture
    method = _TRANSPOSE.get(orientation_of(image))
    return picture if method is None else picture.transpose(method)


def _apart(picture: Image.Image, image: ImageFile, indices: list[int]) -> Image.Image:
    """Return the picture, or a copy if it is the file's own and would turn into the next frame."""
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
    """Refuse a JPEG that goes over its pixels too often: a few bytes suffice for thousands of scans."""
    if image.format not in ("JPEG", "MPO"):
        return
    affordable = MAX_SCANS * limits.max_pixels // max(image.width * image.height, 1 << 16)
    n_scans = count_scans(data, affordable)
    if n_scans > affordable:
        raise ImageError(
            Reason.TOO_MANY_PIXELS, f"JPEG: {n_scans} scans of {image.width} x {image.height} pixels"
        )


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise ImageError(
            Reason.TOO_MANY_PIXELS, f"{width} x {height} = {width * height}; the limit is {limits.max_pixels}"
        )


def _frames_to_look_at(image: ImageFile, n_frames: int, limits: Limits) -> list[int]:
    """Choose the frames to decode: ascending indices, spread evenly, with the first and the last.

    The last is the last one within `MAX_PLAYED_FRAMES` and ``max_total_pixels``: to show a frame of an
    animation, all the frames before it have to be decoded. Pages of a TIFF stand alone, so only those
    looked at count.
    """
    if facts_of(image.format).first_picture_only:
        return [image.tell()]
    affordable = max(1, limits.max_total_pixels // (image.width * image.height))
    reachable = min(n_frames, MAX_PLAYED_FRAMES)
    if not facts_of(image.format).pages_stand_alone:
        reachable = min(reachable, affordable)
    count = min(reachable, limits.max_frames, affordable)
    return [round(i * (reachable - 1) / max(1, count - 1)) for i in range(count)]


_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
