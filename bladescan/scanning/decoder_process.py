"""The process that opens strangers' images: decodes, finds faces, cuts crops. It may die.

It is started by `bladescan.scanning.decoders` and talks to it over two pipes in length-prefixed MessagePack
(typed, never pickle): one `Ready` or `Failed`, then one `Decoded` per `Request`. It knows no detector.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from bladescan.base.errors import BladescanError, ImageError
from bladescan.base.records import Cost, FaceBox, FaceCrop, Reason
from bladescan.detectors.manifest import Resize
from bladescan.images.reading import Limits, read_file, read_image

if TYPE_CHECKING:
    from bladescan.faces.finders import FaceDetector

WATCHDOG_GRACE_S = 5.0
_LENGTH = struct.Struct(">I")
_ENCODER = msgspec.msgpack.Encoder()


class DecoderSettings(msgspec.Struct, frozen=True):
    """What the process is told once, at its start."""

    faces: str = "auto"
    min_face: int = 32
    crop_scale: float = 1.3
    crop_resize: Resize = "antialias"
    limits: Limits = Limits()
    timeout_s: float = 30.0


class Request(msgspec.Struct, frozen=True):
    """One image. ``path`` is in the file system's own bytes; ``data`` holds an object fetched already."""

    path: bytes
    data: bytes | None = None


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The face finder is loaded."""

    finder: str
    notice: str = ""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The process could not start: one line."""

    message: str


class Face(msgspec.Struct, frozen=True):
    """One face of the image; its crop stands at the same index of ``Decoded.crops``."""

    frame: int
    box: FaceBox | None


class Decoded(msgspec.Struct, frozen=True, tag=True):
    """One image decoded, or the reason why not.

    Attributes:
        crops: uint8 RGB ``[n_faces, 224, 224, 3]`` as bytes.
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
    cost: Cost | None = None


def packed(message: msgspec.Struct) -> bytearray:
    """One message behind its length."""
    buffer = bytearray(_LENGTH.size)  # encoded in place: an object may be as large as memory bears twice
    _ENCODER.encode_into(message, buffer, _LENGTH.size)
    _LENGTH.pack_into(buffer, 0, len(buffer) - _LENGTH.size)
    return buffer


def write_message(stream: BinaryIO, message: msgspec.Struct) -> None:
    """Write one message."""
    stream.write(packed(message))
    stream.flush()


def read_length(header: bytes) -> int:
    """Bytes of the message that follows a 4-byte header."""
    return int(_LENGTH.unpack(header)[0])


def decode_request(request: Request, settings: DecoderSettings, finder: FaceDetector) -> Decoded:
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
        """The bytes are there."""
        self._n_bytes, self._fetched = len(data), time.perf_counter()
        return data

    def cost(self) -> Cost:
        now = time.perf_counter()
        fetched = now if self._fetched is None else self._fetched
        return Cost(self._n_bytes, fetched - self._started, now - fetched)


def _attempt(request: Request, settings: DecoderSettings, finder: FaceDetector, watch: _Stopwatch) -> Decoded:
    try:
        data = request.data
        if data is None:
            data = read_file(os.fsdecode(request.path), settings.limits, listed=True)
        return _decode(watch.fetched(data), settings, finder)
    except ImageError as exc:
        return Decoded(reason=exc.reason, detail=_utf8(exc.detail))
    except MemoryError:
        return Decoded(reason=Reason.DECODER_CRASHED, detail="out of memory")


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _decode(data: bytes, settings: DecoderSettings, finder: FaceDetector) -> Decoded:
    from bladescan.faces.finders import face_crops

    image = read_image(data, settings.limits)
    crops: list[FaceCrop] = []
    for index, picture in image.pictures:
        crops += face_crops(picture, finder, index, scale=settings.crop_scale, resize=settings.crop_resize)
    return Decoded(
        format=image.format,
        width=image.width,
        height=image.height,
        n_frames=image.n_frames,
        faces=tuple(Face(crop.frame, crop.box) for crop in crops),
        crops=b"".join(crop.pixels.tobytes() for crop in crops),
    )


def _requests(stream: BinaryIO) -> Iterator[Request]:
    while header := stream.read(_LENGTH.size):
        yield msgspec.msgpack.decode(stream.read(read_length(header)), type=Request)


def _bound_memory(limits: Limits) -> None:
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


def serve(settings: DecoderSettings, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the pipe closes."""
    from bladescan.faces.finders import open_face_detector

    try:
        finder = open_face_detector(settings.faces, min_face=settings.min_face)
    except BladescanError as exc:
        write_message(answers, Failed(str(exc)))
        return
    _bound_memory(settings.limits)
    write_message(answers, Ready(finder.name, getattr(finder, "notice", "")))
    with open(os.devnull, "w") as nowhere:
        for request in _requests(requests):
            # Should the parent be gone, or stuck, a hang in native code still ends here.
            faulthandler.dump_traceback_later(settings.timeout_s + WATCHDOG_GRACE_S, exit=True, file=nowhere)
            write_message(answers, decode_request(request, settings, finder))
            faulthandler.cancel_dump_traceback_later()


def main() -> None:
    """Entry point: settings as JSON in the first argument; requests on stdin, answers on stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; we end with its pipe
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    if not os.environ.get("BLADESCAN_DEBUG"):
        os.dup2(nowhere, 2)  # native decoders chatter about broken files; the row says it already
    serve(msgspec.json.decode(sys.argv[1], type=DecoderSettings), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
