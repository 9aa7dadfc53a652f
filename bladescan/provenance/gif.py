"""The comments and application blocks of a GIF, up to its end mark.

References:
    GIF89a specification; XMP specification part 3, section 1.1.2; C2PA specification 2.1, appendix A.3.5.
"""

from __future__ import annotations

from bladescan.provenance.blocks import Blocks, as_text
from bladescan.provenance.budget import BrokenMetadata, Budget

_COMMENT, _APPLICATION = 0xFE, 0xFF
_XMP_TRAILER = 258
"""Bytes behind a packet that lead a reader of sub-blocks to the terminator."""


def walk_gif_blocks(data: bytes, found: Blocks, budget: Budget) -> None:
    """Add the blocks of a GIF to ``found``.

    Raises:
        BrokenMetadata: the file ends before its end mark; what came before is in ``found``.
    """
    found.size = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    at = 13 + _table_bytes(data[10:11])
    while at < len(data) and data[at] != 0x3B:
        budget.count_block()
        if data[at] == 0x21:
            end = _blocks_end(data, at + 2, budget)
            _add(data[at + 1 : at + 2], data[at + 2 : end], found, budget)
            at = end
        elif data[at] == 0x2C:
            at = _blocks_end(data, at + 11 + _table_bytes(data[at + 9 : at + 10]), budget)
        else:
            at += 1  # stray bytes between blocks are skipped, as decoders do
    if at >= len(data):
        raise BrokenMetadata("GIF: the file ends before its end mark")


def _table_bytes(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _blocks_end(data: bytes, at: int, budget: Budget) -> int:
    while at < len(data) and data[at]:
        budget.count_block()
        at += data[at] + 1
    return at + 1


def _add(label: bytes, body: bytes, found: Blocks, budget: Budget) -> None:
    if label == bytes([_COMMENT]):
        found.comments.append(as_text(budget.kept(_joined(body))))
    elif label == bytes([_APPLICATION]) and body[1:12] == b"XMP DataXMP":
        found.xmp.append(budget.kept(body[12:][:-_XMP_TRAILER]))
    elif label == bytes([_APPLICATION]) and body[1:9] == b"C2PA_GIF":
        found.has_store = True


def _joined(body: bytes) -> bytes:
    parts, at = [], 0
    while at < len(body) and body[at]:
        parts.append(body[at + 1 : at + 1 + body[at]])
        at += body[at] + 1
    return b"".join(parts)
