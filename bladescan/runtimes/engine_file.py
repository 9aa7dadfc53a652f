r"""The file of a TensorRT engine: what it was built from and for, the heads, the engine. It runs nothing.

::

    magic  17 bytes   b"bladescan-engine\n"
    length  4 bytes   of the header, big-endian
    header            JSON: the manifest, the build, sizes and SHA-256 of what follows
    heads             an ONNX graph from embedding to scores in float64, empty for a bare encoder
    engine            as TensorRT serialised it: uint8 crops in, float32 embedding out

No part of it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import shlex
import struct
from pathlib import Path
from typing import NamedTuple

import msgspec

from bladescan.base.errors import DetectorError
from bladescan.detectors.files import read_whole
from bladescan.detectors.manifest import Manifest, decode_manifest, encode_manifest
from bladescan.runtimes.cuda import CudaDevice

MAGIC = b"bladescan-engine\n"
SUFFIX = ".engine"
FORMAT_VERSION = 1
_LENGTH = struct.Struct(">I")


class EngineBuild(msgspec.Struct, frozen=True):
    """What an engine was built from and for; elsewhere it does not run, or was never checked.

    Attributes:
        library: ``tensorrt`` or ``tensorrt_rtx``.
        library_version: an engine is of exactly one.
        device: name of the device that it was built on, empty if it was built without one.
        capabilities: compute capabilities that it runs on.
        precision: ``fp32``, ``fp16`` or ``int8``.
        max_batch: most crops in one run.
        detector: path of the detector file, as it was given.
        detector_sha256: of that file.
        photos: places of the photographs that int8 was calibrated on, as they were given.
        builder: ``parser`` or ``torch-tensorrt``.
    """

    library: str
    library_version: str
    device: str
    capabilities: tuple[str, ...]
    precision: str
    max_batch: int
    detector: str
    detector_sha256: str
    photos: tuple[str, ...] = ()
    builder: str = "parser"


class _Header(msgspec.Struct, frozen=True):
    manifest: msgspec.Raw
    build: EngineBuild
    n_heads: int
    n_engine: int
    sha256: str
    format_version: int = FORMAT_VERSION


class EngineFile(NamedTuple):
    """A whole engine file.

    Attributes:
        manifest: of the detector.
        build: what the engine was built from and for.
        heads: an ONNX graph, empty for a bare encoder.
        engine: for TensorRT.
    """

    manifest: Manifest
    build: EngineBuild
    heads: bytes
    engine: bytes


def encode_engine(file: EngineFile) -> bytes:
    """Encode an engine file."""
    body = file.heads + file.engine
    header = _Header(
        manifest=msgspec.Raw(encode_manifest(file.manifest).encode()),
        build=file.build,
        n_heads=len(file.heads),
        n_engine=len(file.engine),
        sha256=hashlib.sha256(body).hexdigest(),
    )
    text = msgspec.json.encode(header)
    return MAGIC + _LENGTH.pack(len(text)) + text + body


def read_engine(path: Path) -> EngineFile:
    """Read and check a whole engine file.

    Raises:
        DetectorError: it is missing, no engine file, truncated, damaged, or written by a newer bladescan.
    """
    data = read_whole(path, f"an engine file ({SUFFIX})")
    start = len(MAGIC) + _LENGTH.size
    if not data.startswith(MAGIC) or len(data) < start:
        raise DetectorError(f"{path.name}: not an engine of bladescan export --to tensorrt")
    stop = start + _LENGTH.unpack_from(data, len(MAGIC))[0]
    header = _read_header(data[start:stop], where=path.name)
    body = data[stop:]
    if len(body) != header.n_heads + header.n_engine or hashlib.sha256(body).hexdigest() != header.sha256:
        raise DetectorError(f"{path.name}: truncated or damaged; build it again")
    manifest = decode_manifest(bytes(header.manifest), where=path.name)
    return EngineFile(manifest, header.build, body[: header.n_heads], body[header.n_heads :])


def _read_header(text: bytes, *, where: str) -> _Header:
    try:
        header = msgspec.json.decode(text, type=_Header)
    except msgspec.MsgspecError as exc:
        raise DetectorError(f"{where}: truncated or damaged: {exc}") from exc
    if header.format_version > FORMAT_VERSION:
        raise DetectorError(
            f"{where}: made by a newer bladescan (format {header.format_version}, this one reads up to "
            f"{FORMAT_VERSION}): pip install --upgrade bladescan"
        )
    if min(header.n_heads, header.n_engine) < 0:
        raise DetectorError(f"{where}: truncated or damaged; build it again")
    return header


def why_unusable(
    build: EngineBuild, library: str, library_version: str, device: CudaDevice | None = None
) -> str:
    """Explain why an engine cannot run here; an empty text if it can.

    Args:
        build: of the engine.
        library: installed here.
        library_version: of that library.
        device: where it is to run, None to look at the library alone.
    """
    if (library, library_version) != (build.library, build.library_version):
        return f"built by {build.library} {build.library_version}, here is {library} {library_version}"
    if device is None:
        return ""
    if device.capability not in build.capabilities:
        built_for = ", ".join(build.capabilities)
        return f"built for compute capability {built_for}, {device.name} has {device.capability}"
    if build.device and build.device != device.name:
        return f"built on {build.device}, here is {device.name}"
    return ""


def rebuild_command(build: EngineBuild, path: Path) -> str:
    """Write the command that builds such an engine here, quoted for a shell."""
    precision = shlex.quote(build.precision)
    photos = "".join(f" --photos={shlex.quote(place)}" for place in build.photos)
    return (
        f"bladescan export {_argument(build.detector)} --to tensorrt --precision {precision}{photos} "
        f"--max-batch {build.max_batch} --builder {shlex.quote(build.builder)} -o {_argument(str(path))}"
    )


def _argument(name: str) -> str:
    return shlex.quote(f"./{name}" if name.startswith("-") else name)
