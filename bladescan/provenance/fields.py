"""The texts in which generators leave their marks, by one name each: ``png-text:parameters``, ``exif:Make``.

It decodes blocks and does not know what a text means.
"""

from __future__ import annotations

from bladescan.base.provenance_record import Evidence
from bladescan.provenance.blocks import Blocks, as_text
from bladescan.provenance.budget import BrokenMetadata, Budget
from bladescan.provenance.directories import EXIF_POINTER, Directory, first_directory, read_directory
from bladescan.provenance.iim import read_iim, records_in
from bladescan.provenance.xmp import read_xmp

Fields = dict[str, list[str]]
"""Texts by name of the field."""

_USER_COMMENT, _MAKER_NOTE = 0x9286, 0x927C
_TEXT_TAGS = {
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0131: "Software",
    0x013B: "Artist",
    _USER_COMMENT: "UserComment",
    _MAKER_NOTE: "MakerNote",
}
_MOST_MAKER_NOTE = 64
"""A maker note is a text only where a generator wrote a word into it."""
_WANTED = {**_TEXT_TAGS, EXIF_POINTER: "Exif"}


def add_fields(blocks: Blocks, fields: Fields, broken: list[Evidence], budget: Budget) -> None:
    """Decode the blocks of a file.

    Args:
        blocks: of the file.
        fields: gets the texts by field.
        broken: gets what could not be read; a broken block spoils no other.
        budget: of the file.
    """
    for keyword, text in blocks.texts:
        fields.setdefault(f"png-text:{keyword}", []).append(text)
    fields.update({"comment": blocks.comments} if blocks.comments else {})
    records = _records(blocks, budget, broken)
    for kind, parts in (("exif", [blocks.exif]), ("xmp", blocks.xmp), ("iptc", records)):
        for part in parts:
            try:
                _READERS[kind](part, fields, budget)
            except BrokenMetadata as exc:
                broken.append(Evidence(kind, kind, "unreadable", detail=str(exc)))


def _records(blocks: Blocks, budget: Budget, broken: list[Evidence]) -> list[bytes]:
    records = list(blocks.iim)
    for resources in blocks.photoshop:
        try:
            records += records_in(resources, budget)
        except BrokenMetadata as exc:
            broken.append(Evidence("iptc", "iptc", "unreadable", detail=str(exc)))
    return records


def _add_exif(tiff: bytes, fields: Fields, budget: Budget) -> None:
    if not tiff:
        return
    outer = read_directory(tiff, first_directory(tiff), _WANTED, budget)
    exif = outer.number(EXIF_POINTER)
    inner = read_directory(tiff, exif, _WANTED, budget) if exif else Directory()
    for tag, name in _TEXT_TAGS.items():
        raw = outer.raw(tag) or inner.raw(tag)
        if raw and (tag != _MAKER_NOTE or len(raw) <= _MOST_MAKER_NOTE):
            text = user_comment(raw) if tag == _USER_COMMENT else as_text(raw)
            fields.setdefault(f"exif:{name}", []).append(text.rstrip("\0"))


def user_comment(raw: bytes) -> str:
    """Decode an EXIF comment: eight bytes say the character set, which not every tool writes.

    UTF-16 is big-endian or little-endian, whatever the file is: the more zeros in a place, the higher its
    byte.
    """
    kind, text = raw[:8], raw[8:]
    if kind.rstrip(b"\0") == b"UNICODE":
        big = text[::2].count(0) >= text[1::2].count(0)
        return text.decode("utf-16-be" if big else "utf-16-le", "replace").removeprefix("\ufeff")
    return as_text(text if kind in (b"ASCII\0\0\0", bytes(8)) else raw)


def _add_xmp(packet: bytes, fields: Fields, budget: Budget) -> None:
    for name, value in read_xmp(packet, budget):
        fields.setdefault(f"xmp:{name}", []).append(value)


def _add_iim(record: bytes, fields: Fields, budget: Budget) -> None:
    for name, value in read_iim(record, budget):
        fields.setdefault(f"iptc:{name}", []).append(value)


_READERS = {"exif": _add_exif, "xmp": _add_xmp, "iptc": _add_iim}
