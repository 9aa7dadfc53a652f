"""What a process for thumbnails does: it opens one stranger's picture at a time and makes it small.

It may die. The page shows nothing of a file but what is made here: pixels that were decoded and encoded anew.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import msgspec
import numpy as np
from PIL import Image

from bladescan.base.errors import ImageError
from bladescan.base.records import CROP_SIZE, FaceBox, Reason
from bladescan.detectors.manifest import FACE_RULE, FaceRule, PictureRule
from bladescan.faces.crops import crop_face, resample, whole_crop
from bladescan.faces.pictures import Pixels
from bladescan.faces.tiles import picture_squares
from bladescan.images.decoding import MAX_PLAYED_FRAMES, decode_image
from bladescan.images.files import read_file
from bladescan.images.likeness import perceptual_hash
from bladescan.images.limits import Limits
from bladescan.processes.service import Lost, Service
from bladescan.scanning.decoder_process import bound_memory

PICTURE_SIDE = 320
"""Longer side in pixels of the small picture."""

QUALITY = 80
_FLAT = 2.0
"""Least difference in grey levels of a pixel with texture from its four neighbours, added up."""


class ThumbnailSettings(msgspec.Struct, frozen=True):
    """How thumbnails are made: what a process is told once, at its start.

    Attributes:
        face_rule: how a box becomes a crop, so that people see what the detector saw.
        limits: of images; frames are looked at up to the last that is wanted.
        timeout_s: longest time for one image.
    """

    face_rule: FaceRule = FACE_RULE
    limits: Limits = Limits()
    timeout_s: float = 30.0


class WantedFace(msgspec.Struct, frozen=True):
    """One face of the picture, by its row; a box of None takes the whole picture.

    Attributes:
        is_picture: no face, but the picture as a whole: its middle square is shown.
    """

    frame: int
    box: tuple[float, float, float, float] | None
    rotation: int = 0
    is_picture: bool = False


class ThumbnailRequest(msgspec.Struct, frozen=True):
    """One picture and the faces wanted of it.

    Attributes:
        path: in the file system's own bytes.
        faces: an empty list gives the first frame without a face.
        data: of an object that was fetched already.
        hash_only: nothing is decoded, as of what the scan could not read.
    """

    path: bytes
    faces: tuple[WantedFace, ...] = ()
    data: bytes | None = None
    hash_only: bool = False


class FaceThumbnail(msgspec.Struct, frozen=True):
    """One face as the detector saw it.

    Attributes:
        frame: that it is in.
        crop: WebP of 224 x 224 pixels.
        likeness: perceptual hash of the crop.
        flat: share of pixels in the middle of the crop that have no texture.
    """

    frame: int
    crop: bytes
    likeness: int
    flat: float


class PictureThumbnail(msgspec.Struct, frozen=True):
    """One frame made small: WebP, its size before in pixels, and its perceptual hash."""

    frame: int
    small: bytes
    width: int
    height: int
    likeness: int


class Thumbnails(msgspec.Struct, frozen=True):
    """What became of one request.

    Attributes:
        sha256: of the file's bytes, "" where they could not be read.
        reason, detail: why there is nothing more to see, None where there is.
        modified: when the file was changed last, in seconds since 1970; None for an object or an unread one.
        format, width, height: as decoded; of the first frame in pixels.
        pictures: every frame that has a wanted face, or the first.
        faces: in the order asked for; one in a frame that is not there is None.
    """

    sha256: str = ""
    reason: Reason | None = None
    detail: str | None = None
    modified: float | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    pictures: tuple[PictureThumbnail, ...] = ()
    faces: tuple[FaceThumbnail | None, ...] = ()


class ThumbnailsReady(msgspec.Struct, frozen=True):
    """The process has started."""


def make_thumbnails(request: ThumbnailRequest, settings: ThumbnailSettings) -> Thumbnails:
    """Read one picture, hash it and make it small; never raises for a bad image."""
    name, data = os.fsdecode(request.path), request.data
    modified = None
    try:
        if data is None:
            data = read_file(name, settings.limits)
            modified = os.stat(name).st_mtime
    except ImageError as exc:
        return Thumbnails(reason=exc.reason, detail=_utf8(exc.detail))
    except OSError as exc:  # gone between the two
        return Thumbnails(reason=Reason.VANISHED, detail=exc.strerror)
    except MemoryError:
        return Thumbnails(reason=Reason.DECODER_CRASHED, detail="out of memory")
    seen = Thumbnails(hashlib.sha256(data).hexdigest(), modified=modified)
    if request.hash_only:
        return seen
    try:
        return _seen(seen, data, request.faces, settings)
    except ImageError as exc:
        return msgspec.structs.replace(seen, reason=exc.reason, detail=_utf8(exc.detail))
    except MemoryError:
        return msgspec.structs.replace(seen, reason=Reason.DECODER_CRASHED, detail="out of memory")


def _seen(
    found: Thumbnails, data: bytes, wanted: Sequence[WantedFace], settings: ThumbnailSettings
) -> Thumbnails:
    """Decode up to the last frame that is wanted."""
    left = {face.frame for face in wanted} or {0}
    # Every frame, for a scan may have looked at more of them than its default.
    image = decode_image(data, replace(settings.limits, max_frames=MAX_PLAYED_FRAMES))
    pictures: list[PictureThumbnail] = []
    faces: list[FaceThumbnail | None] = [None] * len(wanted)
    for index, picture in image.pictures:
        if index in left:
            pictures.append(_picture(index, picture))
            for place, face in enumerate(wanted):
                if face.frame == index:
                    faces[place] = _face(face, picture, settings.face_rule)
        left.discard(index)
        if not left:
            break
    return msgspec.structs.replace(
        found,
        format=image.format,
        width=image.width,
        height=image.height,
        pictures=tuple(pictures),
        faces=tuple(faces),
    )


def _picture(index: int, picture: Image.Image) -> PictureThumbnail:
    small = picture.copy()
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return PictureThumbnail(index, _webp(small), picture.width, picture.height, perceptual_hash(small))


def _face(wanted: WantedFace, picture: Image.Image, rule: FaceRule) -> FaceThumbnail:
    if wanted.is_picture:
        square = picture_squares(picture.size, PictureRule(view="square"), 1)[0]
        pixels = resample(picture, square, CROP_SIZE, 0, "antialias")
    elif wanted.box is None:
        pixels = whole_crop(picture, rule)
    else:
        pixels = crop_face(picture, FaceBox(*wanted.box, score=1.0, rotation=wanted.rotation), rule)
    crop = Image.fromarray(pixels)
    return FaceThumbnail(wanted.frame, _webp(crop), perceptual_hash(crop), flat_share(pixels))


def flat_share(crop: Pixels) -> float:
    """Compute the share of pixels in the middle of a crop ``[n, n, 3]`` that have no texture, in [0, 1].

    A pixel has none where its grey level is the mean of its four neighbours', but for rounding.
    """
    n = len(crop)
    middle = slice(n * 3 // 14, n - n * 3 // 14)
    grey = np.asarray(Image.fromarray(crop).convert("L"), np.float32)[middle, middle]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((np.abs(4 * grey[1:-1, 1:-1] - around) < _FLAT).mean())


def _webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=2)
    return buffer.getvalue()


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _begin(
    settings: ThumbnailSettings,
) -> tuple[ThumbnailsReady, Callable[[ThumbnailRequest], Thumbnails]]:
    bound_memory(settings.limits)
    return ThumbnailsReady(), partial(make_thumbnails, settings=settings)


def _lost(lost: Lost) -> Thumbnails:
    said = "not made small within" if lost.reason is Reason.TIMEOUT else "the process for thumbnails died:"
    return Thumbnails(reason=lost.reason, detail=f"{said} {lost.how}")


MAKING_THUMBNAILS: Service[ThumbnailSettings, ThumbnailsReady, ThumbnailRequest, Thumbnails] = Service(
    name=f"{__name__}:MAKING_THUMBNAILS",
    begin=_begin,
    lost=_lost,
    settings=ThumbnailSettings,
    ready=ThumbnailsReady,
    request=ThumbnailRequest,
    answer=Thumbnails,
    called="the process for thumbnails",
)
