"""Which walk fits which container, and what the C2PA library calls it. It reads no block."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bladescan.images.formats import format_of
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


CONTAINERS = {
    "AVIF": Container("image/avif", walk_iso_media),
    "GIF": Container("image/gif", walk_gif_blocks),
    "HEIF": Container("image/heif", walk_iso_media),
    "JPEG": Container("image/jpeg", walk_jpeg),
    "PNG": Container("image/png", walk_png),
    "TIFF": Container("image/tiff", walk_tiff_page),
    "WEBP": Container("image/webp", walk_webp),
}
"""By the names of `bladescan.images.formats.IMAGE_FORMATS`; one that is missing holds no metadata here."""


def container_of(data: bytes) -> Container | None:
    """Recognise a container by its first bytes; None for one that holds no metadata that is read here."""
    return CONTAINERS.get(format_of(data) or "")
