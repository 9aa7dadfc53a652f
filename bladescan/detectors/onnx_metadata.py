"""A detector's manifest in the metadata of an ONNX model, read and written. It looks at no graph.

To replace a manifest takes no package: an ONNX model is a protocol buffer, and the metadata stands in fields
of its outermost message. https://protobuf.dev/programming-guides/encoding/ says how those are told apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bladescan.base.errors import DetectorError, import_failed
from bladescan.detectors.manifest import METADATA_KEY, Manifest, decode_manifest, encode_manifest


def import_onnx(what: str) -> Any:
    """Import the package that reads and writes ONNX models.

    Args:
        what: needs it.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import onnx
    except ImportError as exc:
        raise import_failed(exc, what, "onnx", "pip install onnx") from exc
    return onnx


def with_manifest(model: Any, manifest: Manifest) -> bytes:
    """Encode an ``onnx.ModelProto`` with the manifest for its only metadata."""
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, encode_manifest(manifest)
    encoded: bytes = model.SerializeToString(deterministic=True)
    return encoded


def replace_manifest(model: bytes, manifest: Manifest, *, where: str) -> bytes:
    """Give an encoded ONNX model the manifest for its only metadata; the rest stays as it is, byte for byte.

    Raises:
        DetectorError: these bytes are no protocol buffer.
    """
    kept = [field for number, field in _fields(model, where) if number != _METADATA_PROPS]
    key, value = METADATA_KEY.encode(), encode_manifest(manifest).encode()
    entry = b"".join(_prefixed(number, text) for number, text in ((1, key), (2, value)))
    return b"".join([*kept, _prefixed(_METADATA_PROPS, entry)])


_METADATA_PROPS = 14
"""Number of the field ``metadata_props`` in ``ModelProto``."""
_FIXED = {1: 8, 5: 4}
"""Bytes of the wire types of fixed length."""


def _fields(message: bytes, where: str) -> Iterator[tuple[int, memoryview]]:
    """Yield the number and the bytes of each field of a message."""
    view, start = memoryview(message), 0
    while start < len(message):
        try:
            tag, end = _varint(message, start)
            match tag & 7:
                case 0:
                    _, end = _varint(message, end)
                case 2:
                    length, end = _varint(message, end)
                    end += length
                case kind:
                    end += _FIXED[kind]
        except (IndexError, KeyError):
            end = len(message) + 1
        if end > len(message):
            raise DetectorError(f"{where}: not an ONNX model, or cut off")
        yield tag >> 3, view[start:end]
        start = end


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """Read a number of seven bits a byte; also where it ends."""
    number = shift = 0
    while data[start] & 0x80:
        number |= (data[start] & 0x7F) << shift
        start, shift = start + 1, shift + 7
    return number | data[start] << shift, start + 1


def _prefixed(number: int, value: bytes) -> bytes:
    """Encode a field of bytes."""
    return _as_varint(number << 3 | 2) + _as_varint(len(value)) + value


def _as_varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def manifest_of(model: Any, *, where: str) -> Manifest:
    """Read the manifest of an ``onnx.ModelProto``.

    Raises:
        DetectorError: it has none that is whole.
    """
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return decode_manifest(entry.value, where=where)
    raise DetectorError(f"{where}: not a bladescan detector: its metadata has no manifest")
