"""The chunks of a PNG: those that matter for its pixels kept, the others left out. No pixel is decoded.

Pillow gives up a picture for a damaged chunk that says nothing of its pixels. As libpng does, an ancillary
chunk with a wrong checksum is left out; those of an animation carry pixels, and stay as they are.

References:
    PNG specification, third edition, sections 5, 11 and 13.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CARRY_PIXELS = frozenset({b"acTL", b"fcTL", b"fdAT"})
_FOR_PILLOW = frozenset({b"tRNS"}) | _CARRY_PIXELS
_COLOUR = frozenset({b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"})
_TEXT = frozenset({b"tEXt", b"zTXt"})
_EXIF_TEXT = (b"Raw profile type exif\0", b"Raw profile type APP1\0")
_MAX_INFLATED = 4_000_000


class CleanPng(NamedTuple):
    """A PNG without what Pillow need not see.

    Attributes:
        data: the file.
        colour: the bodies of the chunks that say what its colours mean, by name; the first of each.
        exif: of its chunk, or as ImageMagick wrote it into a text; ``b""`` without one.
    """

    data: bytes
    colour: dict[bytes, bytes]
    exif: bytes


def clean_png(data: bytes) -> CleanPng:
    """Leave out the ancillary chunks that are damaged or do not concern the pixels."""
    view, kept, colour = memoryview(data), bytearray(), dict[bytes, bytes]()
    exif = in_text = b""
    start = 0
    for kind, at, length in _chunks(data):
        end = at + 12 + length
        if not kind[0] & 0x20 or kind in _CARRY_PIXELS:
            continue
        body = view[at + 8 : at + 8 + length]
        whole = zlib.crc32(view[at + 4 : at + 8 + length]) == int.from_bytes(data[end - 4 : end], "big")
        if whole and kind in _COLOUR:
            colour.setdefault(kind, bytes(body))
        elif whole and kind == b"eXIf":
            exif = exif or bytes(body)
        elif whole and kind in _TEXT and bytes(body[:22]) in _EXIF_TEXT:
            in_text = in_text or _exif_in_text(kind, bytes(body))
        if not whole or kind not in _FOR_PILLOW or (kind == b"tRNS" and not _fits(data[25], length)):
            kept += view[start:at]
            start = end
    return CleanPng(bytes(kept + view[start:]) if start else data, colour, exif or in_text)


def png_ends_early(data: bytes) -> bool:
    """Tell whether a PNG lacks its last chunk, whatever is appended to it."""
    return b"IEND" not in data[-1024:] and all(kind != b"IEND" for kind, _, _ in _chunks(data))


def png_variant(data: bytes) -> str | None:
    """Name the kind of PNG that is not opened; None for one that is."""
    return "PNG as Apple's tools rewrite it for a telephone (CgBI)" if data[12:16] == b"CgBI" else None


def depth_of(data: bytes) -> int:
    """Return the bits of a sample, as the header says."""
    return data[24] if len(data) > 24 else 8


def _fits(colour_type: int, length: int) -> bool:
    """Tell whether a tRNS chunk has as many bytes as the kind of picture needs."""
    return {0: length >= 2, 2: length >= 6, 3: length <= 256}.get(colour_type, False)


def inflated(body: bytes) -> bytes:
    """Decompress, to `_MAX_INFLATED` bytes; ``b""`` for what is longer, or broken."""
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(body, _MAX_INFLATED)
    except zlib.error:
        return b""
    return plain if stream.eof else b""


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, place and length of each chunk that lies inside the file, up to the last one."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data) or not kind.isalpha():
            return
        yield kind, at, length
        if kind == b"IEND":
            return
        at += 12 + length


def _exif_in_text(kind: bytes, body: bytes) -> bytes:
    """Read EXIF that is written as a name, a length and hexadecimal digits."""
    text = body.partition(b"\0")[2]
    if kind == b"zTXt":
        text = inflated(text[1:])
    try:
        return bytes.fromhex(b"".join(text.split()[2:]).decode("ascii"))
    except ValueError:
        return b""
