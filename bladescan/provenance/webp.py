"""The metadata chunks of a WebP, within the length that its header states.

References:
    RFC 9649, section 2; C2PA specification 2.1, appendix A.3.3.
"""

from __future__ import annotations

from bladescan.provenance.blocks import Blocks, is_store
from bladescan.provenance.budget import BrokenMetadata, Budget


def walk_webp(data: bytes, found: Blocks, budget: Budget) -> None:
    """Add the blocks of a WebP to ``found``.

    Raises:
        BrokenMetadata: a chunk reaches past the end; what came before is in ``found``.
    """
    at, end = 12, 8 + int.from_bytes(data[4:8], "little")
    while at + 8 <= min(end, len(data)):
        budget.count_block()
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"C2PA":
            found.has_store = found.has_store or is_store(data[at + 8 : at + 48])  # even one cut short
        if at + 8 + size > len(data):
            raise BrokenMetadata(f"WebP: a chunk reaches past the end, at byte {at}")
        if kind == b"VP8X" and size >= 10:
            found.size = _side(data, at + 12), _side(data, at + 15)
        elif kind == b"EXIF":
            found.add_exif(budget.kept(data[at + 8 : at + 8 + size]))
        elif kind == b"XMP ":
            found.xmp.append(budget.kept(data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2


def _side(data: bytes, at: int) -> int:
    return 1 + int.from_bytes(data[at : at + 3], "little")
