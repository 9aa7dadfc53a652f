"""Which format bytes are of, and what the container itself tells: how many frames, whether bytes are missing.

It decodes no pixel. ``docs/formats.md`` states every rule.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal

from bladescan.base.errors import ImageError
from bladescan.base.records import Reason

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

DEFAULT_FORMATS = frozenset({"AVIF", "BMP", "GIF", "HEIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"})
"""Formats that are opened unless the caller says otherwise; a multi-picture JPEG (MPO) counts as JPEG."""

OPTIONAL_FORMATS = frozenset({"JPEG2000"})
"""Formats that are opened only if asked for."""

MAX_LISTED_FRAMES = 100_000
"""Frames or pages of a file that is opened; more cost seconds even to count."""

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "PSD"),
    (b"%PDF", "PDF"),
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
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"IIRO", "ORF"),
    (b"IIU\0", "RW2"),
    (b"FUJIFILMCCD-RAW", "RAF"),
    (b"<svg", "SVG"),
)

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_NETPBM = frozenset({b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf"})


def allowed_format(data: bytes, formats: frozenset[str]) -> str:
    """The format of the bytes, if it is one of ``formats`` and can be opened here.

    Raises:
        ImageError: not-an-image or format-not-allowed.
    """
    kind = _sniff(data)
    if kind is None:
        raise ImageError(Reason.NOT_AN_IMAGE, "the content is of no known image format")
    if kind not in formats:
        allowed = ", ".join(sorted(formats))
        raise ImageError(Reason.FORMAT_NOT_ALLOWED, f"{kind} is not opened; allowed: {allowed}")
    if kind == "HEIF" and not _register_heif():
        raise ImageError(Reason.FORMAT_NOT_ALLOWED, "HEIF needs pillow-heif: pip install 'bladescan[heif]'")
    return kind


def _sniff(data: bytes) -> str | None:
    """The format that the content begins like, whatever the file is called."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _sniff_iso_media(data)
    if data[:2] in _NETPBM and data[2:3].isspace():
        return "PPM"
    return next((name for start, name in _SIGNATURES if data.startswith(start)), None)


def _sniff_iso_media(data: bytes) -> str | None:
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[i : i + 4] for i in (8, *range(16, end - 3, 4))]
    for brand in brands:  # the major brand first; "mif1" leaves the matter to those that follow
        if brand in (b"avif", b"avis"):
            return "AVIF"
        if brand in _HEIF_BRANDS:
            return "HEIF"
    names = {b"mif1": "HEIF", b"msf1": "HEIF", b"crx ": "CR3"}
    return names.get(brands[0])


@functools.cache
def _register_heif() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def ends_early(kind: str, data: bytes) -> bool:
    """Whether the container itself says that bytes are missing; used to name the reason of a failure."""
    if kind == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if kind in ("AVIF", "HEIF"):
        return _iso_media_ends_early(data)
    if kind == "GIF":
        return not _walk_gif(data)[1]
    tail = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}.get(kind)
    return tail is not None and tail not in data[-1024:]


def _iso_media_ends_early(data: bytes) -> bool:
    pos = 0
    while pos + 8 <= len(data):
        size = int.from_bytes(data[pos : pos + 4], "big")
        if size == 1:
            size = int.from_bytes(data[pos + 8 : pos + 16], "big")
        if size < 8:  # 0 reaches to the end of the file; less than a header is damage
            return False
        pos += size
    return pos != len(data)


def count_frames(image: ImageFile, data: bytes) -> int:
    """Frames or pages of an opened image, at least 1.

    Raises:
        ImageError: truncated where the list of them ends early, or too-many-frames.
    """
    walk = {"GIF": _walk_gif, "TIFF": _walk_tiff}.get(image.format or "")
    if walk is None:
        n_frames = int(getattr(image, "n_frames", 1))  # said by the header
    else:
        n_frames, complete = walk(data)
        if not complete and n_frames <= MAX_LISTED_FRAMES:
            # Pillow takes the end of the file for the end of the animation.
            raise ImageError(Reason.TRUNCATED, f"{image.format}: the file ends after {n_frames} frames")
    if n_frames > MAX_LISTED_FRAMES:
        raise ImageError(Reason.TOO_MANY_FRAMES, f"{MAX_LISTED_FRAMES} frames or more")
    return max(1, n_frames)


def _walk_gif(data: bytes) -> tuple[int, bool]:
    """Number of frames, and whether the end mark follows them. Decodes nothing."""
    pos = 13 + _gif_table_bytes(data[10:11])
    n_frames = 0
    while pos < len(data) and n_frames <= MAX_LISTED_FRAMES:
        mark = data[pos]
        if mark == 0x3B:
            return n_frames, True
        if mark == 0x2C:  # a frame: its descriptor, perhaps a colour table, the code size
            n_frames += 1
            pos += 11 + _gif_table_bytes(data[pos + 9 : pos + 10])
        elif mark == 0x21:  # an extension and its label
            pos += 2
        else:  # stray bytes between blocks are skipped, as Pillow does
            pos += 1
            continue
        while pos < len(data) and data[pos]:
            pos += data[pos] + 1
        pos += 1
    return n_frames, False


def _walk_tiff(data: bytes) -> tuple[int, bool]:
    """Number of pages, and whether the list of them ends in the file. Pillow's time grows as its square."""
    order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
    wide = int.from_bytes(data[2:4], order) == 43  # BigTIFF
    n_count, n_entry, n_next = (8, 20, 8) if wide else (2, 12, 4)
    pos, seen = int.from_bytes(data[8:16] if wide else data[4:8], order), set[int]()
    while pos and pos not in seen and len(seen) <= MAX_LISTED_FRAMES:
        seen.add(pos)
        pos += n_count + n_entry * int.from_bytes(data[pos : pos + n_count], order)
        if pos + n_next > len(data):
            return len(seen), False
        pos = int.from_bytes(data[pos : pos + n_next], order)
    return len(seen), True


def _gif_table_bytes(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
