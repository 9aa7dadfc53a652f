"""The blocks of metadata that a container holds, undecoded. It knows no container and reads no block."""

from __future__ import annotations

from dataclasses import dataclass, field

_STORE_TYPE = b"c2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"


@dataclass(slots=True)
class Blocks:
    """What a walk through a container has found so far.

    Attributes:
        exif: a TIFF structure, ``b""`` if none.
        xmp: packets, the main one first.
        photoshop: image resources (``8BIM``).
        iim: IPTC-IIM records.
        texts: keyword and text, as PNG has them.
        comments: texts without a keyword, as JPEG and GIF have them.
        has_store: whether a C2PA manifest store is embedded.
        size: width and height of the picture as stored, ``(0, 0)`` if unknown.
    """

    exif: bytes = b""
    xmp: list[bytes] = field(default_factory=list)
    photoshop: list[bytes] = field(default_factory=list)
    iim: list[bytes] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    has_store: bool = False
    size: tuple[int, int] = (0, 0)

    def add_exif(self, block: bytes) -> None:
        """Keep the first EXIF, without the mark that some containers put before it."""
        self.exif = self.exif or block.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")


def is_store(boxes: bytes) -> bool:
    """Tell whether JUMBF boxes begin with a C2PA manifest store, by the type in its description.

    References:
        C2PA specification 2.1, section 11.1; ISO/IEC 19566-5 (JUMBF).
    """
    start = 16 if boxes[:4] == b"\0\0\0\1" else 8
    return boxes[4:8] == b"jumb" and boxes[start + 4 : start + 24] == b"jumd" + _STORE_TYPE


def as_text(raw: bytes) -> str:
    """Decode text that should be Latin-1 or UTF-8 but says neither."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
