"""The metadata segments of a JPEG, up to its first scan. Bytes after that are pixels, whatever they say.

References:
    ITU-T T.81, annex B; XMP specification part 3, section 1.1.3; C2PA specification 2.1, appendix A.3.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from bladescan.provenance.blocks import Blocks, as_text, is_store
from bladescan.provenance.budget import BrokenMetadata, Budget

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_APP1, _APP11, _APP13, _COMMENT = 0xE1, 0xEB, 0xED, 0xFE
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_SCAN, _END = 0xDA, 0xD9


def walk_jpeg(data: bytes, found: Blocks, budget: Budget) -> None:
    """Add the blocks of a JPEG to ``found``.

    Raises:
        BrokenMetadata: the segments do not follow each other; what came before is in ``found``.
    """
    pieces: dict[bytes, list[bytes]] = {}
    try:
        for marker, body in _segments(data, budget):
            if marker == _APP1 and body.startswith(_MORE_XMP):
                pieces.setdefault(body[len(_MORE_XMP) :][:32], []).append(budget.kept(body[len(_MORE_XMP) :]))
            else:
                _add(marker, body, found, budget)
    finally:
        for guid, parts in pieces.items():
            _add_extended(guid, parts, found)


def _add(marker: int, body: bytes, found: Blocks, budget: Budget) -> None:
    if marker == _APP1 and body.startswith(b"Exif\0"):
        found.add_exif(body)
    elif marker == _APP1 and body.startswith(_XMP):
        found.xmp.append(budget.kept(body[len(_XMP) :]))
    elif marker == _APP13 and body.startswith(b"Photoshop 3.0\0"):
        found.photoshop.append(budget.kept(body[14:]))
    elif marker == _APP11 and body.startswith(b"JP"):
        found.has_store = found.has_store or is_store(body[8:])  # after instance and sequence number
    elif marker == _COMMENT:
        found.comments.append(as_text(budget.kept(body)))
    elif marker in _SIZES and len(body) >= 5:
        found.size = int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big")


def _segments(data: bytes, budget: Budget) -> Iterator[tuple[int, bytes]]:
    at = 2
    while at + 4 <= len(data):
        budget.count_block()
        if data[at] != 0xFF:
            raise BrokenMetadata(f"JPEG: no segment where one should be, at byte {at}")
        marker = data[at + 1]
        if marker in (_SCAN, _END):
            return
        if marker == 0xFF or marker in _ALONE:  # a fill byte, or a marker without a body
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(data):
            raise BrokenMetadata(f"JPEG: a segment reaches past the end, at byte {at}")
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def _add_extended(guid: bytes, parts: list[bytes], found: Blocks) -> None:
    """Join the pieces of an extended packet; its name is the MD5 of the whole."""
    by_offset = {int.from_bytes(part[36:40], "big"): part[40:] for part in parts}
    packet = b"".join(by_offset[offset] for offset in sorted(by_offset))
    if hashlib.md5(packet, usedforsecurity=False).hexdigest().upper().encode() != guid:
        raise BrokenMetadata("JPEG: extended XMP is incomplete")
    found.xmp.append(packet)
