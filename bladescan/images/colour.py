"""The colours of a decoded picture: from any mode and any profile to sRGB. It decodes nothing.

``docs/formats.md`` states every rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageChops

if TYPE_CHECKING:
    from numpy.typing import NDArray

BACKGROUND = (255, 255, 255)
"""Colour that shows through transparent pixels."""
_WITH_ALPHA = {"RGBA": "RGB", "LA": "L", "PA": "RGB"}
_PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA"}


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to sRGB: scale deep grey, and put transparency on white."""
    opaque, alpha = _apart(image)
    if opaque.mode.startswith("I") or opaque.mode == "F":
        opaque = _grey_from_deep(opaque, image.format)
    elif opaque.mode == "1":
        opaque = opaque.convert("L")
    elif opaque.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        opaque = ImageChops.invert(
            opaque
        )  # Pillow takes every CMYK JPEG for one of Adobe's, which are negatives
    elif opaque.mode not in ("RGB", "L", "CMYK"):
        opaque = opaque.convert("RGB")
    shown = _in_srgb(opaque, image.info.get("icc_profile"))
    if alpha is None:
        return shown
    canvas = Image.new("RGB", shown.size, BACKGROUND)
    canvas.paste(shown, mask=alpha)
    return canvas


def _in_srgb(image: Image.Image, profile: object) -> Image.Image:
    if isinstance(profile, bytes) and profile:
        from bladescan.images.profiles import to_srgb

        convert = to_srgb(profile, image.mode)
        if convert is not None:
            return convert(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _apart(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Take the opacity out of a picture; None if all of it is opaque."""
    if not image.has_transparency_data:
        return image, None
    if "transparency" in image.info and image.mode in ("1", "L", "RGB") or image.mode.startswith("I"):
        return image, _where_not(image, image.info["transparency"])
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    elif image.mode == "P":
        image = image.convert("RGBA")
    alpha = image.getchannel("A")
    low, high = alpha.getextrema()
    # Where a format does not say what the fourth byte is, nothing but zeros is no opacity.
    is_opaque = low == 255 or (high == 0 and _is_unstated(image))
    return image.convert(_WITH_ALPHA[image.mode]), None if is_opaque else alpha


def _is_unstated(image: Image.Image) -> bool:
    return image.format == "BMP" or (image.format == "TIFF" and not getattr(image, "alpha_is_stated", True))


def _where_not(image: Image.Image, key: object) -> Image.Image | None:
    """Return the opacity of a picture in which one colour is transparent."""
    pixels = np.asarray(image)
    if image.mode == "1":
        pixels = pixels.astype(np.uint8) * 255
    colour = np.asarray(key)
    if colour.ndim != pixels.ndim - 2 or not (colour.ndim == 0 or len(colour) == pixels.shape[2]):
        return None
    same = pixels == colour
    same = same.all(axis=2) if same.ndim == 3 else same
    return Image.fromarray(np.where(same, 0, 255).astype(np.uint8)) if same.any() else None


def _grey_from_deep(image: Image.Image, kind: str | None) -> Image.Image:
    """Scale a grey picture of 16 or 32 bits, integer or float, to 8 bits, without clipping."""
    values = np.asarray(image)
    states_white = image.mode.startswith("I;16") or (kind == "PPM" and image.mode == "I")
    low, high = (0.0, 65535.0) if states_white else value_range(values)
    return Image.fromarray(scaled(values, low, high))


def scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Scale samples to 8 bits: ``low`` and what is below it, or no number, to 0."""
    plain = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
    return np.rint(np.clip((plain - low) * (255.0 / (high - low)), 0, 255)).astype(np.uint8)


def value_range(values: NDArray[Any]) -> tuple[float, float]:
    """Find the values of black and white in deep pixels: from the pixels, as no format states them."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    for white in (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0):
        if low >= 0 and high <= white:
            return 0.0, white
    return low, max(high, low + 1.0)
