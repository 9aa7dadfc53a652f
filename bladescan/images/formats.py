"""The table of image formats: how each is recognised, and what is special about it.

A new format that Pillow can open is a line in `IMAGE_FORMATS`; one that is only named in messages, a line in
`_NEVER_OPENED`. If it holds metadata, `bladescan.provenance.containers` needs a walk to it; if such files are
measured, `bladescan.evaluation.baselines.TOLD_APART` its name. ``docs/formats.md`` states every rule.

No pixel is decoded here.
"""

from __future__ import annotations

import codecs
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from bladescan.base.errors import ImageError
from bladescan.base.records import Reason
from bladescan.images.bmp_header import bmp_variant
from bladescan.images.camera_raw import camera_raw
from bladescan.images.containers import (
    MAX_LISTED_FRAMES,
    gif_ends_early,
    iso_media_format,
    tiff_ends_early,
    walk_gif,
    walk_tiff,
    webp_ends_early,
)
from bladescan.images.iso_boxes import iso_media_ends_early
from bladescan.images.jpeg_markers import jpeg_ends_early, jpeg_variant
from bladescan.images.png_chunks import png_ends_early, png_variant

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile


class ImageFormat(NamedTuple):
    """What is special about a format.

    Attributes:
        suffixes: with which names say that a file is one, without the dot.
        starts: what its files begin with; empty where that takes more than a look at the first bytes.
        on_request: opened only if the user asks for it.
        ends_early: tells whether bytes are missing, by the container alone; None if it cannot say.
        walk_frames: counts frames or pages, and tells whether their list is whole; None to ask Pillow.
        variant: names the kind of file of this format that is never opened; None for one that is.
        is_turned_upright: by the decoder itself.
        first_picture_only: further pictures in the file are previews or other views.
        pages_stand_alone: a page can be decoded without those before it.
        exif_by_pillow: Pillow finds its EXIF; `bladescan.exif.raw_fields` finds that of JPEG and TIFF itself.
    """

    suffixes: str = ""
    starts: tuple[bytes, ...] = ()
    on_request: bool = False
    ends_early: Callable[[bytes], bool] | None = None
    walk_frames: Callable[[bytes], tuple[int, bool]] | None = None
    variant: Callable[[bytes], str | None] | None = None
    is_turned_upright: bool = False
    first_picture_only: bool = False
    pages_stand_alone: bool = False
    exif_by_pillow: bool = False


IMAGE_FORMATS: dict[str, ImageFormat] = {
    "AVIF": ImageFormat("avif avifs", ends_early=iso_media_ends_early, exif_by_pillow=True),
    "BMP": ImageFormat("bmp dib", (b"BM",), variant=bmp_variant),
    "GIF": ImageFormat("gif", (b"GIF87a", b"GIF89a"), ends_early=gif_ends_early, walk_frames=walk_gif),
    "HEIF": ImageFormat(
        "heic heics heif heifs hif",
        ends_early=iso_media_ends_early,
        is_turned_upright=True,
        first_picture_only=True,
        exif_by_pillow=True,
    ),
    "JPEG": ImageFormat(
        "jpg jpeg jpe jfif jif mpo",
        (b"\xff\xd8\xff",),
        ends_early=jpeg_ends_early,
        variant=jpeg_variant,
        first_picture_only=True,
    ),
    "JPEG2000": ImageFormat(
        "jp2 j2k j2c jpc jpf jpx", (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"), on_request=True
    ),
    "PNG": ImageFormat(
        "png apng",
        (b"\x89PNG\r\n\x1a\n",),
        ends_early=png_ends_early,
        variant=png_variant,
        exif_by_pillow=True,
    ),
    "PPM": ImageFormat("ppm pgm pbm pnm pfm"),
    "TIFF": ImageFormat(
        "tif tiff",
        (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        ends_early=tiff_ends_early,
        walk_frames=walk_tiff,
        variant=camera_raw,
        pages_stand_alone=True,
    ),
    "WEBP": ImageFormat("webp", ends_early=webp_ends_early, exif_by_pillow=True),
}
"""By Pillow's name. A multi-picture JPEG, Pillow's ``MPO``, counts as JPEG."""

DEFAULT_FORMATS = frozenset(name for name, facts in IMAGE_FORMATS.items() if not facts.on_request)
"""Formats that are opened unless the caller says otherwise."""

_NEVER_OPENED: tuple[tuple[bytes, str], ...] = (
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "PSD"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\2\0\0\0", "TGA"),
    (b"\0\0\x0a\0\0\0", "TGA"),
    (b"\0\0\2\0", "CUR"),
    (b"icns", "ICNS"),
    (b"DDS ", "DDS"),
    (b"BLP1", "BLP"),
    (b"BLP2", "BLP"),
    (b"FTC\0", "FTEX"),
    (b"FTU\0", "FTEX"),
    (b"qoif", "QOI"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"SIMPLE  =", "FITS"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"\1\0\0\0\x6c\0\0\0", "EMF"),
    (b"/* XPM */", "XPM"),
    (b"gimp xcf", "XCF"),
    (b"P7 332", "XV thumbnail"),
    (b"P7\n", "PAM"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"\x01\xda\0", "SGI"),
    (b"\x01\xda\1", "SGI"),
    (b"II\xbc\1", "JPEG XR"),
    (b"IIRO", "camera raw (ORF)"),
    (b"IIRS", "camera raw (ORF)"),
    (b"MMOR", "camera raw (ORF)"),
    (b"IIU\0", "camera raw (RW2)"),
    (b"FUJIFILMCCD-RAW", "camera raw (RAF)"),
    (b"FOVb", "camera raw (X3F)"),
    (b"\0MRM", "camera raw (MRW)"),
    (b"II\x1a\0\0\0HEAPCCDR", "camera raw (CRW)"),
    (b"ARRI\x12\x34\x56\x78", "camera raw (ARI)"),
    (b"\x8aMNG\r\n\x1a\n", "MNG"),
    (b"\x8bJNG\r\n\x1a\n", "JNG"),
    (b"PF\n", "PFM in colour"),
    (b"<svg", "SVG"),
)
_NEVER_OPENED_SUFFIXES = (
    "jxl psd psb eps ico tga cur icns dds blp ftc ftu qoi exr hdr fits fts wmf emf xpm xbm xcf pam ras sgi "
    "pcx svg svgz jxr wdp hdp raw dng nef nrw cr2 cr3 crw arw srf sr2 orf rw2 raf pef srw 3fr x3f erf kdc "
    "dcr iiq mos mef mrw rwl"
)
_DOCUMENTS = ((b"%PDF", "PDF"), (b"\x89HDF\r\n\x1a\n", "HDF5"))
_ASIDE = frozenset(("bak", "old", "orig", "part", "partial", "tmp", "crdownload", "download"))
"""Endings of names of pictures that are not finished, or kept for later."""
_NETPBM = frozenset({b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf"})


_SUFFIXES = frozenset(
    " ".join([*(facts.suffixes for facts in IMAGE_FORMATS.values()), _NEVER_OPENED_SUFFIXES]).split()
)


def names_picture(name: str) -> bool:
    """Tell whether the name of a file says that it is a picture, opened here or not."""
    stem, _, suffix = name.lower().removesuffix("~").rpartition(".")
    if suffix in _ASIDE:
        suffix = stem.rpartition(".")[2]
    return suffix in _SUFFIXES and bool(stem)


def is_known(head: bytes) -> bool:
    """Tell whether a file that begins like this is in any image format that is known here."""
    return format_of(head) is not None


def is_text(data: bytes) -> bool:
    """Tell whether a file begins like text: UTF-8 without control characters."""
    try:
        head = codecs.getincrementaldecoder("utf-8")().decode(data[:1024])  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\t\r\n" for c in head)


def facts_of(pillow_name: str | None) -> ImageFormat:
    """Look up what is special about a format, by the name that Pillow gives an opened image."""
    return IMAGE_FORMATS.get("JPEG" if pillow_name == "MPO" else pillow_name or "", ImageFormat())


def allowed_format(data: bytes, formats: frozenset[str]) -> str:
    """Name the format of some bytes, if it is one of ``formats`` and can be opened here.

    Args:
        data: the file.
        formats: keys of `IMAGE_FORMATS`.

    Raises:
        ImageError: not-an-image or format-not-allowed.
    """
    kind = format_of(data)
    document = next((name for start, name in _DOCUMENTS if data.startswith(start)), None)
    if document is not None:
        raise ImageError(Reason.NOT_AN_IMAGE, f"{document} is not an image; pictures in it are not looked at")
    if kind is None:
        raise ImageError(Reason.NOT_AN_IMAGE, "the content is of no known image format")
    if kind not in formats:
        allowed = ", ".join(sorted(formats))
        raise ImageError(Reason.FORMAT_NOT_ALLOWED, f"{kind} is not opened; allowed: {allowed}")
    variant = IMAGE_FORMATS[kind].variant
    what = None if variant is None else variant(data)
    if what is not None:
        raise ImageError(Reason.FORMAT_NOT_ALLOWED, f"{what} is not opened")
    if kind == "HEIF" and not register_heif():
        raise ImageError(Reason.FORMAT_NOT_ALLOWED, "HEIF needs pillow-heif: pip install 'bladescan[heif]'")
    return kind


def format_of(data: bytes) -> str | None:
    """Recognise the format by the first bytes, whatever the file is called; None if it is no known one."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return iso_media_format(data)
    if data[:2] in _NETPBM and data[2:3].isspace():
        return "PPM"
    known = ((start, name) for name, facts in IMAGE_FORMATS.items() for start in facts.starts)
    return next((name for start, name in (*known, *_NEVER_OPENED) if data.startswith(start)), None)


@functools.cache
def register_heif() -> bool:
    """Let Pillow open HEIF, if pillow-heif is installed; say whether it can."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def ends_early(pillow_name: str, data: bytes) -> bool:
    """Tell whether the container itself says that bytes are missing; this names the reason of a failure."""
    tells = facts_of(pillow_name).ends_early
    return tells is not None and tells(data)


def count_frames(image: ImageFile, data: bytes) -> int:
    """Count the frames or pages of an opened image, at least 1.

    Raises:
        ImageError: truncated where the list of them ends early, or too-many-frames.
    """
    walk = facts_of(image.format).walk_frames
    if walk is None:
        n_frames = int(getattr(image, "n_frames", 1))  # the header says it
    else:
        n_frames, complete = walk(data)
        if not complete and n_frames <= MAX_LISTED_FRAMES:
            # Pillow takes the end of the file for the end of the animation.
            raise ImageError(Reason.TRUNCATED, f"{image.format}: the file ends after {n_frames} frames")
    if n_frames > MAX_LISTED_FRAMES:
        raise ImageError(Reason.TOO_MANY_FRAMES, f"{MAX_LISTED_FRAMES} frames or more")
    return max(1, n_frames)
