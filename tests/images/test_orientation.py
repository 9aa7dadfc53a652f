"""Pictures come upright, each turned once."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from bladescan.images.decoding import decode_image
from tests.images import tiff_files
from tests.images.pictures import LIMITS, corners, encode, first


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG", {"quality": 95}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("AVIF", {"quality": 95}),
    ],
)
def test_orientation_is_applied_exactly_once(kind, options, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(encode(corners(), kind, exif=exif.tobytes(), **options), LIMITS)
    upright = corners()
    upright.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(upright))
    [(_, pixels)] = decoded.frames
    assert (decoded.height, decoded.width) == expected.shape[:2]
    assert pixels.shape == expected.shape
    assert np.abs(pixels[4::8, 4::8].astype(int) - expected[4::8, 4::8]).max() < 40


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_broken_exif_does_not_lose_the_picture(kind, exif):
    assert first(encode(corners(), kind, exif=exif)).shape == (32, 48, 3)


# ---- tags beside the orientation are broken, or XMP says otherwise


def exif_with(entries: list[bytes], order: str = "<", n_entries: int | None = None) -> bytes:
    """A directory of these entries and the orientation 6, which comes last but one."""
    turned = struct.pack(order + "HHIHH", 274, 3, 1, 6, 0)
    body = b"".join([*entries[:-1], turned, *entries[-1:]])
    count = len(entries) + 1 if n_entries is None else n_entries
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, count)
    return head + body + bytes(4)


def entry(tag: int, kind: int, count: int, value: int, order: str = "<") -> bytes:
    return struct.pack(order + "HHII", tag, kind, count, value)


BROKEN = {
    "far-away": exif_with([entry(271, 2, 20, 0xFFFFFF)]),
    "of-no-type": exif_with([entry(271, 99, 1, 0)]),
    "absurdly-long": exif_with([entry(271, 2, 0xFFFFFFFF, 8)]),
    "nothing": exif_with([entry(271, 5, 0, 0)]),
    "no-directory-behind-the-pointer": exif_with([entry(0x8769, 4, 1, 0xFFFF)]),
    "pointer-in-a-circle": exif_with([entry(0x8769, 4, 1, 8)]),
    "ratio-by-zero": exif_with([entry(282, 5, 1, 8)]),
    "more-entries-than-there-are": exif_with([entry(271, 2, 4, 0)], n_entries=900),
    "big-endian": exif_with([entry(271, 2, 20, 0xFFFFFF, ">")], ">"),
    "as-long": exif_with([])[:10] + struct.pack("<HHII", 274, 4, 1, 6) + bytes(4),
    "as-byte": exif_with([])[:10] + struct.pack("<HHIBBBB", 274, 1, 1, 6, 0, 0, 0) + bytes(4),
    "cut-behind-it": exif_with([entry(271, 2, 4, 0)])[:-12],
}
UPRIGHT = corners().transpose(Image.Transpose.ROTATE_270)


def stored(kind: str, block: bytes) -> bytes:
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    return encode(corners(), kind, exif=b"Exif\0\0" + block, **options)


def is_turned(data: bytes) -> bool:
    pixels, expected = first(data).astype(int), np.asarray(UPRIGHT)
    return pixels.shape == expected.shape and np.abs(pixels[4::8, 4::8] - expected[4::8, 4::8]).max() < 40


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", BROKEN)
def test_the_orientation_is_found_although_another_tag_is_broken(name, kind):
    assert is_turned(stored(kind, BROKEN[name]))


@pytest.mark.parametrize("name", ["far-away", "of-no-type", "absurdly-long", "nothing", "ratio-by-zero"])
def test_the_orientation_of_a_tiff_is_found_although_another_tag_is_broken(name):
    broken = {
        "far-away": (305, 2, 20, 0xFFFFFF),
        "of-no-type": (305, 99, 1, 0),
        "absurdly-long": (305, 2, 0xFFFFFFF0, 8),
        "nothing": (305, 5, 0, 0),
        "ratio-by-zero": (282, 5, 1, 8),
    }
    data = bytearray(
        encode(corners(), "TIFF", exif=struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 274, 3, 1, 6, 0, 0))
    )
    start = int.from_bytes(data[4:8], "little")
    (count,) = struct.unpack_from("<H", data, start)
    entries = [bytes(data[start + 2 + 12 * i : start + 14 + 12 * i]) for i in range(count)]
    entries = sorted([*entries, entry(*broken[name])], key=lambda each: int.from_bytes(each[:2], "little"))
    data[4:8] = struct.pack("<I", len(data))
    data += struct.pack("<H", count + 1) + b"".join(entries) + bytes(4)
    assert is_turned(bytes(data))


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_orientation_that_is_not_defined_turns_nothing(kind, value):
    block = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 274, 3, 1, value, 0, 0)
    options = {"lossless": True} if kind == "WEBP" else {}
    assert first(encode(corners(), kind, exif=b"Exif\0\0" + block, **options)).shape == (32, 48, 3)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def with_xmp(kind: str, exif: int, xmp: int) -> bytes:
    block = Image.Exif()
    if exif:
        block[274] = exif
    options: dict[str, object] = {"exif": block.tobytes()} if exif else {}
    if kind == "PNG":
        note = PngInfo()
        note.add_itxt("XML:com.adobe.xmp", (XMP % xmp).decode())
        options["pnginfo"] = note
    elif kind == "TIFF":
        tags = Image.Exif()
        tags[274], tags[700] = exif or 1, XMP % xmp
        if not exif:
            del tags[274]
        options = {"exif": tags}
    else:
        options |= {"xmp": XMP % xmp, **({"lossless": True} if kind == "WEBP" else {"quality": 95})}
    return encode(corners(), kind, **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_alone_decides_where_xmp_disagrees(kind):
    assert is_turned(with_xmp(kind, 6, 3))
    assert is_turned(with_xmp(kind, 6, 1))
    assert first(with_xmp(kind, 0, 6)).shape == (32, 48, 3)


def test_imagemagicks_exif_in_a_text_of_a_png_is_read():
    digits = exif_with([entry(271, 2, 20, 0xFFFFFF)])
    block = b"Exif\0\0" + digits
    note = PngInfo()
    note.add_text("Raw profile type exif", f"\nexif\n{len(block):8d}\n{block.hex()}\n", zip=True)
    assert is_turned(encode(corners(), "PNG", pnginfo=note))


def test_exif_behind_the_pixels_of_a_png_is_read():
    data = encode(corners(), "PNG")
    at = data.rindex(b"IEND") - 4
    body = b"eXIf" + exif_with([])
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    assert is_turned(data[:at] + chunk + data[at:])


def test_each_page_of_a_tiff_is_turned_by_its_own_tag():
    block = [
        tiff_files.page_of(np.asarray(corners()), 2, more=[tiff_files.Field(274, 3, [v])]) for v in (1, 6, 3)
    ]
    shapes = [pixels.shape for _, pixels in decode_image(tiff_files.write(*block), LIMITS).frames]
    assert shapes == [(32, 48, 3), (48, 32, 3), (32, 48, 3)]
