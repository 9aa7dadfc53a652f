"""An image file opened by Pillow, which is first kept from what it misreads. No pixel is decoded.

Each format that Pillow does not take as it is meant has a function here; `open_image` finds it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from bladescan.images.bmp_header import embedded_profile, with_whole_palette
from bladescan.images.iso_boxes import code_points, with_known_code_points, without_appendix, without_exif
from bladescan.images.jpeg_markers import without_metadata
from bladescan.images.orientation import ORIENTATION, exif_orientation, valid_orientation
from bladescan.images.png_chunks import clean_png, depth_of, inflated

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_GREY_TYPES = (0, 4)


def open_image(kind: str, data: bytes) -> ImageFile:
    """Open an image file of a format that is known.

    Returns:
        The image; ``info["icc_profile"]`` is what its file says of its colours, in whatever way.

    Raises:
        Exception: whatever Pillow raises.
    """
    return _OPENERS.get(kind, _open)(kind, data)


def orientation_of(image: ImageFile) -> int:
    """Read the orientation of the present frame, 1 to 8, after it was loaded."""
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        value = tags.get(ORIENTATION, 1)
        return valid_orientation(value if isinstance(value, int) else 1)
    block = image.info.get("exif")
    return exif_orientation(block) if isinstance(block, bytes) else 1


def _open(kind: str, data: bytes) -> ImageFile:
    return Image.open(io.BytesIO(data), formats=(kind,))


def _open_tiff(kind: str, data: bytes) -> ImageFile:
    from bladescan.images.tiff_plugin import TiffPages

    return TiffPages(io.BytesIO(data))


def _open_jpeg(kind: str, data: bytes) -> ImageFile:
    try:
        return _open(kind, data)
    except (UnidentifiedImageError, LookupError, ValueError, struct.error):
        # Broken metadata before the pixels, perhaps: they do not need it.
        return _open(kind, without_metadata(data))


def _open_png(kind: str, data: bytes) -> ImageFile:
    clean = clean_png(data)
    image = _open(kind, clean.data)
    _set(image, "exif", clean.exif)
    _set(image, "icc_profile", _png_profile(clean.colour, grey=data[25] in _GREY_TYPES))
    key, depth = image.info.get("transparency"), depth_of(data)
    if image.mode == "L" and isinstance(key, int):  # Pillow scales the pixels, and not the key
        image.info["transparency"] = key * {2: 85, 4: 17}.get(depth, 1)
    elif image.mode == "RGB" and depth == 16 and isinstance(key, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in key)
    return image


def _set(image: ImageFile, name: str, value: bytes | None) -> None:
    image.info.pop(name, None)
    if value:
        image.info[name] = value


def _png_profile(colour: dict[bytes, bytes], *, grey: bool) -> bytes | None:
    """Find or make the profile of a PNG: cICP is asked first, then iCCP, sRGB, and gAMA with cHRM."""
    from bladescan.images.profiles import Points, profile_of_code_points, profile_of_gamma

    code = colour.get(b"cICP", b"")
    if len(code) == 4 and code[2:] == b"\0\1":  # RGB, all levels used
        return None if grey else profile_of_code_points(code[0], code[1])
    if b"iCCP" in colour:
        profile = inflated(colour[b"iCCP"].partition(b"\0")[2][1:])
        if profile:
            return profile
    if b"sRGB" in colour:
        return None
    points: Points | None = None
    if len(numbers := colour.get(b"cHRM", b"")) == 32:
        white, red, green, blue = struct.iter_unpack(">2I", numbers)
        red_xy, green_xy, blue_xy, white_xy = (_xy(pair) for pair in (red, green, blue, white))
        points = (red_xy, green_xy, blue_xy, white_xy)
    number = int.from_bytes(colour.get(b"gAMA", b"")[:4], "big")
    return profile_of_gamma(points, 100_000 / number if number else None, grey=grey)


def _xy(pair: tuple[int, ...]) -> tuple[float, float]:
    return pair[0] / 100_000, pair[1] / 100_000


def _open_iso_media(kind: str, data: bytes) -> ImageFile:
    from bladescan.images.profiles import profile_of_code_points

    data = without_appendix(data)
    # Pillow turns an AVIF by its container, and reads its EXIF for that; broken EXIF would lose the picture.
    image = _open(kind, without_exif(data) if kind == "AVIF" else with_known_code_points(data))
    points = None if image.info.get("icc_profile") else code_points(data)
    if points is not None:
        _set(image, "icc_profile", profile_of_code_points(*points))
    return image


def _open_bmp(kind: str, data: bytes) -> ImageFile:
    image = _open(kind, with_whole_palette(data))
    _set(image, "icc_profile", embedded_profile(data))
    return image


_OPENERS: dict[str, Callable[[str, bytes], ImageFile]] = {
    "AVIF": _open_iso_media,
    "BMP": _open_bmp,
    "HEIF": _open_iso_media,
    "JPEG": _open_jpeg,
    "PNG": _open_png,
    "TIFF": _open_tiff,
}
