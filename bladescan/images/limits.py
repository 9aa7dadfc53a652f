"""What may be spent on one image, and the checks that need no decoder."""

from __future__ import annotations

from dataclasses import dataclass

from bladescan.base.errors import ImageError, UsageError
from bladescan.base.records import Reason
from bladescan.images.formats import DEFAULT_FORMATS, IMAGE_FORMATS

MOST_BYTES = 4_000_000_000
"""Largest value of ``Limits.max_bytes``: a message to a decoder process holds its length in 32 bits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be spent on one image. The pixel limits apply before anything is decoded.

    Attributes:
        max_bytes: largest file in bytes.
        max_pixels: largest frame in pixels. Decoding peaks at about 12 bytes per pixel. Pillow itself
            refuses more than 178,956,970, which gives the same reason.
        max_frames: how many frames of an animation or pages of a document are looked at.
        max_total_pixels: pixels of all the frames that have to be decoded to reach those, together.
        min_side: smallest width and height in pixels.
        formats: names of the formats that may be opened.
    """

    max_bytes: int = 100_000_000
    max_pixels: int = 100_000_000
    max_frames: int = 8
    max_total_pixels: int = 500_000_000
    min_side: int = 16
    formats: frozenset[str] = DEFAULT_FORMATS

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "max_frames", "max_total_pixels", "min_side"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_bytes > MOST_BYTES:
            raise UsageError(f"max_bytes must be at most {MOST_BYTES}, got {self.max_bytes}")
        if unknown := sorted(self.formats - IMAGE_FORMATS.keys()):
            raise UsageError(
                f"unknown image format {unknown[0]!r}. Available: {', '.join(sorted(IMAGE_FORMATS))}."
            )


def check_bytes(size: int, max_bytes: int) -> None:
    """Raise ImageError for a file larger than the limit."""
    if size > max_bytes:
        raise ImageError(Reason.TOO_MANY_BYTES, f"{size} bytes or more; the limit is {max_bytes}")


def check_not_empty(data: bytes) -> None:
    """Raise ImageError for a file without bytes."""
    if not data:
        raise ImageError(Reason.EMPTY, "the file has no bytes")
