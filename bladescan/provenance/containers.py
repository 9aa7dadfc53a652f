"""Which walk fits which container, and what the C2PA library calls it. It reads no block."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bladescan.images.containers import iso_media_format
from bladescan.provenance.blocks import Blocks
from bladescan.provenance.budget import Budget
from bladescan.provenance.gif import walk_gif_blocks
from bladescan.provenance.iso_media import walk_iso_media
from bladescan.provenance.jpeg import walk_jpeg
from bladescan.provenance.png import walk_png
from bladescan.provenance.tiff import walk_tiff_page
from bladescan.provenance.webp import walk_webp


class Container(NamedTuple):
    """A kind of file: its media type, and the walk that fills `Blocks`."""

    media_type: str
    walk: Callable[[bytes, Blocks, Budget], None]


JPEG = Container("image/jpeg", walk_jpeg)
PNG = Container("image/png", walk_png)
WEBP = Container("image/webp", walk_webp)
GIF = Container("image/gif", walk_gif_blocks)
TIFF = Container("image/tiff", walk_tiff_page)
AVIF = Container("image/avif", walk_iso_media)
HEIF = Container("image/heif", walk_iso_media)


def container_of(data: bytes) -> Container | None:
    """Recognise a container by its first bytes; None for one that holds no metadata that is read here."""
    if data.startswith(b"\xff\xd8\xff"):
        return JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if data.startswith((b"GIF87a", b"GIF89a")):
        return GIF
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return TIFF
    if data[4:8] == b"ftyp":
        return {"AVIF": AVIF, "HEIF": HEIF}.get(iso_media_format(data) or "")
    return None
