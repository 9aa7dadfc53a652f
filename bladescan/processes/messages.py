"""What crosses the pipes to and from a process: MessagePack behind its length. Typed, never pickle.

A process that opened a stranger's image may be in the stranger's hands: what it answers must not run code.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import msgspec

from bladescan.base import errors

HEADER = struct.Struct(">I?")
"""Bytes of the message that follows, and whether it is a `Failed` instead of an answer."""
_ENCODER = msgspec.msgpack.Encoder()
_ERRORS = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.BladescanError) and kind is not errors.ImageError
}


class Failed(msgspec.Struct, frozen=True):
    """What a process raised.

    Attributes:
        kind: name of the exception.
        parts: what it is made of.
    """

    kind: str
    parts: list[str | list[str]]


def packed(message: object) -> bytearray:
    """Encode a message behind its header."""
    buffer = bytearray(HEADER.size)  # encoded in place: an object may be as large as memory bears twice
    _ENCODER.encode_into(message, buffer, HEADER.size)
    HEADER.pack_into(buffer, 0, len(buffer) - HEADER.size, isinstance(message, Failed))
    return buffer


def write_message(stream: BinaryIO, message: object) -> None:
    """Write a message at once."""
    stream.write(packed(message))
    stream.flush()


def failed(exc: errors.BladescanError) -> Failed:
    """Put an exception into a message; one that `bladescan.base.errors` does not know is a BackendError."""
    name, parts = type(exc).__name__, exc.__reduce__()[1]
    if _ERRORS.get(name) is not type(exc):
        return Failed("BackendError", [str(exc)])
    return Failed(name, list(parts))


def raised(message: Failed) -> errors.BladescanError:
    """Take an exception out of a message."""
    return _ERRORS[message.kind](*message.parts)
