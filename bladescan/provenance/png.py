"""The metadata chunks of a PNG, before and behind its pixels, up to IEND. Bytes after that do not count.

References:
    PNG specification, third edition, section 11.3; C2PA specification 2.1, appendix A.3.2 (``caBX``).
"""

from __future__ import annotations

from collections.abc import Iterator

from bladescan.provenance.blocks import Blocks, as_text, is_store
from bladescan.provenance.budget import BrokenMetadata, Budget

_XMP = "XML:com.adobe.xmp"
_PROFILE = "Raw profile type "


def walk_png(data: bytes, found: Blocks, budget: Budget) -> None:
    """Add the blocks of a PNG to ``found``.

    Raises:
        BrokenMetadata: the file ends within a chunk; what came before is in ``found``.
    """
    broken: BrokenMetadata | None = None
    for kind, body in _chunks(data, found, budget):
        try:
            _add(kind, body, found, budget)
        except BrokenMetadata as exc:  # one chunk spoils no other
            broken = exc
    if broken:
        raise broken


def _chunks(data: bytes, found: Blocks, budget: Budget) -> Iterator[tuple[bytes, memoryview]]:
    at, view = 8, memoryview(data)
    while at + 12 <= len(data):
        budget.count_block()
        length = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind == b"caBX":
            found.has_store = found.has_store or is_store(data[at + 8 : at + 48])  # even one cut short
        if at + 12 + length > len(data):
            raise BrokenMetadata(f"PNG: a chunk reaches past the end, at byte {at}")
        yield kind, view[at + 8 : at + 8 + length]
        if kind == b"IEND":
            return
        at += 12 + length
    raise BrokenMetadata("PNG: the file ends before IEND")


def _add(kind: bytes, body: memoryview, found: Blocks, budget: Budget) -> None:
    if kind == b"IHDR":
        found.size = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
    elif kind == b"eXIf":
        found.add_exif(budget.kept(bytes(body)))
    elif kind in (b"tEXt", b"zTXt", b"iTXt"):
        if len(body) > budget.limits.max_block_bytes:
            raise BrokenMetadata(f"PNG: a text of {len(body)} bytes")
        keyword, text = _text(kind, bytes(body), budget)
        _add_text(keyword, text, found, budget)


def _text(kind: bytes, body: bytes, budget: Budget) -> tuple[str, bytes]:
    keyword, _, rest = body.partition(b"\0")
    if kind == b"tEXt":
        return as_text(keyword), budget.kept(rest)
    if kind == b"zTXt":
        return as_text(keyword), budget.inflated(rest[1:])
    _, _, text = rest[2:].partition(b"\0")[2].partition(b"\0")  # language, translated keyword
    return as_text(keyword), budget.inflated(text) if rest[:1] == b"\1" else budget.kept(text)


def _add_text(keyword: str, text: bytes, found: Blocks, budget: Budget) -> None:
    if keyword == _XMP:
        found.xmp.append(text)
    elif keyword.startswith(_PROFILE):
        _add_profile(keyword[len(_PROFILE) :], text, found)
    else:
        found.texts.append((keyword[:79], as_text(text)))


def _add_profile(name: str, text: bytes, found: Blocks) -> None:
    """Add a profile as ImageMagick writes it: name and length, then hexadecimal digits."""
    try:
        profile = bytes.fromhex(b"".join(text.split()[2:]).decode("ascii"))
    except ValueError as exc:
        raise BrokenMetadata(f"PNG: profile {name[:20]!r} is broken") from exc
    if name in ("exif", "APP1") and profile.startswith(b"Exif\0"):
        found.add_exif(profile)
    elif name == "xmp":
        found.xmp.append(profile)
    elif name in ("iptc", "8bim"):
        found.photoshop.append(profile.removeprefix(b"Photoshop 3.0\0"))
