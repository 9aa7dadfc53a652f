"""The colours of a decoded picture: from any mode and any ICC profile to sRGB. It decodes nothing.

``docs/formats.md`` states every rule.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

BACKGROUND = (255, 255, 255)
"""Colour that shows through transparent pixels."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to sRGB: scale deep grey, and put transparency on white."""
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_from_deep(image).convert("RGB")
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        image = _on_background(image)
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    transform = _to_srgb(profile, image.mode) if isinstance(profile, bytes) else None
    if transform is not None:
        return transform(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_background(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGBA", image.size, (*BACKGROUND, 255))
    canvas.alpha_composite(image.convert("RGBA"))
    return canvas.convert("RGB")


def _grey_from_deep(image: Image.Image) -> Image.Image:
    """Scale a grey picture of 16 or 32 bits, integer or float, to 8 bits, without clipping."""
    values = np.asarray(image).astype(np.float64)
    finite = np.isfinite(values)
    values = np.where(finite, values, values[finite].min() if finite.any() else 0.0)
    low, high = _value_range(image, values)
    scaled = (values - low) * (255.0 / (high - low))
    return Image.fromarray(np.rint(np.clip(scaled, 0, 255)).astype(np.uint8))


def _value_range(image: Image.Image, values: NDArray[np.float64]) -> tuple[float, float]:
    """Find the values of black and white: from the format if it states them, else from the pixels."""
    if image.mode.startswith("I;16"):
        return 0.0, float((1 << _bits_per_sample(image)) - 1)
    if image.format == "PPM" and image.mode == "I":
        return 0.0, 65535.0
    low, high = float(values.min()), float(values.max())
    candidates = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    for white in candidates:
        if low >= 0 and high <= white:
            return 0.0, white
    return low, max(high, low + 1.0)


def _bits_per_sample(image: Image.Image) -> int:
    """Return 16, or fewer if a TIFF says so: Pillow leaves 12-bit values as they are."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(ExifTags.Base.BitsPerSample, (16,))
    return int(bits[0]) if isinstance(bits, tuple) and 8 < bits[0] < 16 else 16


@functools.lru_cache(maxsize=32)
def _to_srgb(profile: bytes, mode: str) -> Callable[[Image.Image], Image.Image] | None:
    """Make the conversion from an ICC profile to sRGB; None if it is sRGB, HDR, broken or unsuitable."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        spaces = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
        if source.profile.xcolor_space.strip() != spaces[mode]:
            return None
        name = source.profile.profile_description or ""
        # lcms would render the HDR transfer curves (PQ, HLG) nearly black.
        if ("sRGB" in name and "P3" not in name) or "PQ" in name or "HLG" in name:
            return None
        target = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(source, target, mode, "RGB").apply
    except Exception:  # a broken profile must not lose a readable picture
        return None
