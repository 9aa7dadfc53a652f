"""What a decoder process does: it opens strangers' images, reads what they say, cuts crops out. It may die.

It knows no detector. See `bladescan.processes` for how it is started and talked to.
"""

from __future__ import annotations

import hashlib
import os
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from bladescan.base.errors import ImageError
from bladescan.base.provenance_record import Provenance
from bladescan.base.records import CROP_SIZE, Cost, FaceBox, Reason
from bladescan.detectors.manifest import (
    FACE_RULE,
    PICTURE_RULE,
    FaceRule,
    Manifest,
    PictureRule,
    Subject,
    crop_rules,
)
from bladescan.images.decoding import decode_image
from bladescan.images.files import read_file
from bladescan.images.formats import is_text, names_picture
from bladescan.images.limits import Limits
from bladescan.processes.service import Lost, Service

if TYPE_CHECKING:
    from PIL import Image

    from bladescan.faces.finders import FaceFinder
    from bladescan.faces.tiles import Tiles


class ProvenanceSettings(msgspec.Struct, frozen=True):
    """How what files say of themselves is read, see `bladescan.provenance.reading.read_provenance`."""

    trust_list: str = ""
    prompts: bool = False


Subjects = Literal["face", "image", "both"]
"""What is cut out of an image: its faces, the image as a whole, or both."""


class DecoderSettings(msgspec.Struct, frozen=True):
    """How images are read and faces found: what a decoder process is told once, at its start.

    Attributes:
        faces, min_face: see `bladescan.faces.finders.open_face_finder`.
        face_rule: how a box becomes a crop; its finder says nothing here.
        more_rules: further ways to cut each face out, for detectors that are combined.
        limits: of images.
        timeout_s: longest time for one image.
        provenance: how what a file says of itself is read; None to leave it unread. A scan sets it.
        views: make views of the crops as well (`bladescan.faces.views`). A scan sets it.
        digest: say what tells the file from others. A scan with a ledger sets it.
        identify: the same, and what tells the picture from its copies. A fit sets it.
        subject: what is cut out.
        picture_rule: how a whole image becomes crops.
    """

    faces: str = "auto"
    min_face: int = 32
    face_rule: FaceRule = FACE_RULE
    more_rules: tuple[FaceRule, ...] = ()
    limits: Limits = Limits()
    timeout_s: float = 30.0
    provenance: ProvenanceSettings | None = None
    views: bool = False
    digest: bool = False
    identify: bool = False
    subject: Subjects = "face"
    picture_rule: PictureRule = PICTURE_RULE

    def for_detector(self, manifest: Manifest) -> DecoderSettings:
        """Cut out what the detector judges, as it was cut for its fit; whole pictures need no face finder."""
        rules = crop_rules(manifest)
        return msgspec.structs.replace(
            self,
            face_rule=rules[0],
            more_rules=rules[1:],
            faces="none" if manifest.subject == "image" else self.faces,
            subject=manifest.subject,
            picture_rule=manifest.picture_rule,
        )


class Request(msgspec.Struct, frozen=True):
    """One image. ``path`` is in the file system's own bytes; ``data`` holds an object fetched already."""

    path: bytes
    data: bytes | None = None


class Ready(msgspec.Struct, frozen=True):
    """The face finder is loaded."""

    finder: str
    notice: str = ""


class Face(msgspec.Struct, frozen=True):
    """One face of the image, or the image as a whole; its crops stand in the same order in ``Decoded.crops``.

    Attributes:
        frame: that shows it; of a whole image the first that was seen.
        box: None for an image that is a crop, and for a whole image.
        subject: a face, or the image as a whole.
        n_crops: 1 for a face, the tiles of a whole image.
        coverage: of the tiles, see `bladescan.faces.tiles`; None for a face.
    """

    frame: int
    box: FaceBox | None
    subject: Subject = "face"
    n_crops: int = 1
    coverage: float | None = None


class Decoded(msgspec.Struct, frozen=True):
    """One image decoded, or the reason why not.

    Attributes:
        faces: the faces in order of frame, then the image as a whole, as far as each was asked for.
        crops: uint8 RGB ``[n_crops, 224, 224, 3]`` as bytes, those of all of ``faces``; of the faces
            ``[n_faces, m, 224, 224, 3]`` where they are cut out in m ways.
        views: empty, or of each of ``faces``, uint8 ``[n_views, n_crops, 224, 224, 3]`` as bytes (of a face
            ``[n_views, m, 224, 224, 3]``); of no more than the first `MOST_VIEWED` faces and the whole
            image, b"" of the others.
        sha256: of the file, if it was to be digested or identified.
        likeness: perceptual hash of the first frame, if it was to be identified.
        provenance: what the file says of itself, also if it could not be decoded; None if unread.
        cost: bytes and seconds, but for scoring.
    """

    reason: Reason | None = None
    detail: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    n_frames: int | None = None
    faces: tuple[Face, ...] = ()
    crops: bytes = b""
    views: tuple[bytes, ...] = ()
    sha256: bytes = b""
    likeness: int | None = None
    provenance: Provenance | None = None
    cost: Cost | None = None

    def of(self, subject: Subject) -> Decoded:
        """Take the faces alone, or the whole image alone, with its crops and views."""
        chosen = [index for index, face in enumerate(self.faces) if face.subject == subject]
        if len(chosen) == len(self.faces):
            return self
        n_tiles = sum(face.n_crops for face in self.faces if face.subject == "image")  # which come last
        cut = len(self.crops) - n_tiles * CROP_BYTES
        return msgspec.structs.replace(
            self,
            faces=tuple(self.faces[index] for index in chosen),
            crops=self.crops[:cut] if subject == "face" else self.crops[cut:],
            views=tuple(self.views[index] for index in chosen) if self.views else (),
        )


CROP_BYTES = CROP_SIZE * CROP_SIZE * 3
MOST_VIEWED = 16
"""Faces of one image of which views are made: a megabyte each, which many decoded images hold at once."""
_OUT_OF_MEMORY = Decoded(reason=Reason.DECODER_CRASHED, detail="out of memory")


def decode_request(request: Request, settings: DecoderSettings, finder: FaceFinder) -> Decoded:
    """Decode one image and cut its faces out; never raises for a bad image."""
    watch = _Stopwatch()
    found = _attempt(request, settings, finder, watch)
    return msgspec.structs.replace(found, cost=watch.cost())


class _Stopwatch:
    """What a request took: bytes, and seconds before and after they were there."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._fetched: float | None = None
        self._n_bytes = 0

    def fetched(self, data: bytes) -> bytes:
        """Do nothing: the bytes are here already."""
        self._n_bytes, self._fetched = len(data), time.perf_counter()
        return data

    def cost(self) -> Cost:
        now = time.perf_counter()
        fetched = now if self._fetched is None else self._fetched
        return Cost(self._n_bytes, fetched - self._started, now - fetched)


def _attempt(request: Request, settings: DecoderSettings, finder: FaceFinder, watch: _Stopwatch) -> Decoded:
    name, data = os.fsdecode(request.path), request.data
    try:
        if data is None:
            data = read_file(name, settings.limits, listed=True)
    except ImageError as exc:
        return Decoded(reason=exc.reason, detail=_utf8(exc.detail))
    except MemoryError:
        return _OUT_OF_MEMORY
    found = _decoded(watch.fetched(data), settings, finder)
    if found.reason in _DAMAGED and not names_picture(name) and is_text(data):
        found = Decoded(reason=Reason.NOT_AN_IMAGE, detail="text that begins like an image")
    digest = hashlib.sha256(data).digest() if settings.digest or settings.identify else b""
    return msgspec.structs.replace(found, provenance=_provenance(data, settings.provenance), sha256=digest)


def _provenance(data: bytes, settings: ProvenanceSettings | None) -> Provenance | None:
    if settings is None or not data:  # an empty object says as little as an empty file
        return None
    from bladescan.provenance.reading import read_provenance

    return read_provenance(data, trust_list=settings.trust_list, prompts=settings.prompts)


def _decoded(data: bytes, settings: DecoderSettings, finder: FaceFinder) -> Decoded:
    try:
        return _decode(data, settings, finder)
    except ImageError as exc:
        return Decoded(reason=exc.reason, detail=_utf8(exc.detail))
    except MemoryError:
        return _OUT_OF_MEMORY


_DAMAGED = (Reason.CORRUPT, Reason.TRUNCATED)


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _decode(data: bytes, settings: DecoderSettings, finder: FaceFinder) -> Decoded:
    from bladescan.faces.pictures import as_pillow
    from bladescan.images.likeness import perceptual_hash

    image = decode_image(data, settings.limits)
    faces, whole = _FaceCut(settings, finder), _WholeCut(settings, image.n_seen)
    likeness: int | None = None
    for index, picture in image.pictures:
        if settings.identify and likeness is None:
            likeness = perceptual_hash(as_pillow(picture))
        if settings.subject != "image":
            faces.add(index, picture)
        if settings.subject != "face":
            whole.add(index, picture)
    return Decoded(
        format=image.format,
        width=image.width,
        height=image.height,
        n_frames=image.n_frames,
        faces=(*faces.found, *whole.found()),
        crops=b"".join(faces.crops + whole.crops),
        views=(*faces.views, *whole.viewed()),
        likeness=likeness,
    )


class _FaceCut:
    """The faces of the frames so far."""

    def __init__(self, settings: DecoderSettings, finder: FaceFinder) -> None:
        self._settings, self._finder = settings, finder
        self.found: list[Face] = []
        self.crops: list[bytes] = []
        self.views: list[bytes] = []

    def add(self, index: int, picture: Image.Image) -> None:
        import numpy as np

        from bladescan.faces.finders import cut_again, face_crops
        from bladescan.faces.views import face_views

        first, more = self._settings.face_rule, self._settings.more_rules
        for crop in face_crops(picture, self._finder, index, first):
            self.found.append(Face(crop.frame, crop.box))
            self.crops.append(crop.pixels.tobytes())
            self.crops += [cut_again(picture, crop, rule).tobytes() for rule in more]
            if self._settings.views:
                wanted = (first, *more) if len(self.views) < MOST_VIEWED else ()
                views = [face_views(picture, crop.box, rule) for rule in wanted]
                self.views.append(np.stack(views, 1).tobytes() if views else b"")


class _WholeCut:
    """The image as a whole so far: its frames share the tiles of one image."""

    def __init__(self, settings: DecoderSettings, n_frames: int) -> None:
        self._settings, self._n_frames, self._n_past = settings, n_frames, 0
        self._most = settings.picture_rule.most
        self._frames: list[tuple[int, int, Tiles]] = []

    @property
    def crops(self) -> list[bytes]:
        return [tiles.crops.tobytes() for *_, tiles in self._frames]

    def add(self, index: int, picture: Image.Image) -> None:
        from bladescan.faces.tiles import cut_tiles

        # The tiles are dealt out evenly; of more frames than tiles some get none.
        before, now = (place * self._most // self._n_frames for place in (self._n_past, self._n_past + 1))
        self._n_past += 1
        if now > before:
            rule, views = self._settings.picture_rule, self._settings.views
            tiles = cut_tiles(picture, rule, now - before, views=views)
            self._frames.append((index, picture.width * picture.height, tiles))

    def found(self) -> list[Face]:
        if not self._frames:
            return []
        n_crops = sum(len(tiles.crops) for *_, tiles in self._frames)
        seen = sum(tiles.coverage * n_pixels for _, n_pixels, tiles in self._frames)
        coverage = seen / sum(n_pixels for _, n_pixels, _ in self._frames)
        return [Face(self._frames[0][0], None, "image", n_crops, coverage)]

    def viewed(self) -> list[bytes]:
        import numpy as np

        views = [tiles.views for *_, tiles in self._frames if tiles.views is not None]
        return [np.concatenate(views, 1).tobytes()] if views else []


def bound_memory(limits: Limits) -> None:
    """Let allocations fail beyond what an image within the limits can need: no bomb may fell the machine.

    Twice what was measured: 16-bit colour peaks at 15 bytes per pixel; an object is here as the request and
    as its data.
    """
    status = Path("/proc/self/status").read_text()
    now = int(status.split("VmData:")[1].split()[0]) * 1024
    most = now + (1 << 30) + 24 * limits.max_pixels + 4 * limits.max_bytes
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(
        resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    )


def _begin(settings: DecoderSettings) -> tuple[Ready, Callable[[Request], Decoded]]:
    from bladescan.faces.finders import open_face_finder

    finder = open_face_finder(settings.faces, min_face=settings.min_face)
    bound_memory(settings.limits)
    ready = Ready(finder.name, getattr(finder, "notice", ""))
    return ready, partial(decode_request, settings=settings, finder=finder)


def _lost(lost: Lost) -> Decoded:
    detail = (
        f"not decoded within {lost.how}"
        if lost.reason is Reason.TIMEOUT
        else f"the decoder process died ({lost.how}) on it twice"
    )
    return Decoded(reason=lost.reason, detail=detail, cost=Cost(decode_s=lost.seconds))


DECODING: Service[DecoderSettings, Ready, Request, Decoded] = Service(
    name=f"{__name__}:DECODING",
    begin=_begin,
    lost=_lost,
    settings=DecoderSettings,
    ready=Ready,
    request=Request,
    answer=Decoded,
    called="the decoder process",
)
