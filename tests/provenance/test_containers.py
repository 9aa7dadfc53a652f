"""Every container gives its EXIF, XMP, IPTC and texts, whole or not, and nothing that is no part of it."""

from __future__ import annotations

import hashlib
import struct
import zlib

import pytest

from bladescan.images.formats import register_heif
from bladescan.provenance.blocks import Blocks
from bladescan.provenance.budget import Budget, MetadataLimits
from bladescan.provenance.containers import container_of
from bladescan.provenance.reading import read_provenance
from tests.provenance.files import (
    SOURCE,
    encoded,
    exif,
    iim,
    packet,
    picture,
    png,
    segment,
    source_type,
    unicode_comment,
    with_chunks,
    with_segments,
    with_xmp,
)
from tests.provenance.generators import A1111

TYPE = packet(attributes=f'Iptc4xmpExt:DigitalSourceType="{SOURCE}trainedAlgorithmicMedia"')


def heif(**options):
    if not register_heif():
        pytest.skip("pillow-heif is not installed (extra heif)")
    return encoded("HEIF", **options)


def declared(data):
    found = read_provenance(data)
    return found.declared, found.declared_by


def unreadable(data):
    return [one.detail for one in read_provenance(data).evidence if one.says == "unreadable"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF"])
def test_xmp_is_found(kind):
    data = source_type("trainedAlgorithmicMedia", kind)
    assert declared(data) == ("ai-generated", "iptc")
    assert not unreadable(data)


def test_xmp_is_found_in_heif():
    assert declared(heif(xmp=TYPE)) == ("ai-generated", "iptc")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_exif_is_found(kind):
    data = encoded(kind, exif=exif(UserComment=unicode_comment(A1111)).tobytes())
    assert declared(data) == ("ai-generated", "exif")


def test_the_directory_of_a_tiff_is_its_exif():
    assert declared(encoded("TIFF", tiffinfo={0x010F: "Ideogram AI"})) == ("ai-generated", "exif")


def test_exif_is_found_in_heif():
    assert declared(heif(exif=exif(UserComment=unicode_comment(A1111)).tobytes())) == ("ai-generated", "exif")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
def test_the_size_of_the_picture_is_read(kind):
    data = encoded(kind, exif=exif(Make="x").tobytes()) if kind == "WEBP" else encoded(kind)
    blocks = Blocks()
    container_of(data).walk(data, blocks, Budget(MetadataLimits()))
    assert blocks.size == picture().size


def test_iptc_is_found_in_a_tiff():
    from PIL import TiffImagePlugin

    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[34377] = iim(Credit="Made with Google AI")
    info.tagtype[34377] = 1
    assert declared(encoded("TIFF", tiffinfo=info)) == ("ai-generated", "iptc")


@pytest.mark.parametrize(
    ("profile", "block"),
    [
        ("xmp", TYPE),
        ("exif", b"Exif\0\0" + exif(UserComment=unicode_comment(A1111)).tobytes()[6:]),
        ("iptc", iim(Credit="Made with Google AI")),
    ],
)
def test_profiles_of_imagemagick_are_read(profile, block):
    text = f"\n{profile}\n{len(block):8}\n{block.hex()}\n"
    data = with_chunks((b"zTXt", f"Raw profile type {profile}\0\0".encode() + zlib.compress(text.encode())))
    assert declared(data)[0] == "ai-generated"


@pytest.mark.parametrize("flag", [0, 1])
def test_international_texts_are_read(flag):
    text = zlib.compress(A1111.encode()) if flag else A1111.encode()
    body = b"parameters\0" + bytes([flag, 0]) + b"en\0Parameter\0" + text
    assert declared(with_chunks((b"iTXt", body))) == ("ai-generated", "png-text")


def test_a_text_behind_the_pixels_is_read():
    data = encoded("PNG")
    body = b"tEXtparameters\0" + A1111.encode()
    chunk = struct.pack(">L", len(body) - 4) + body + struct.pack(">L", zlib.crc32(body))
    assert declared(data[:-12] + chunk + data[-12:]) == ("ai-generated", "png-text")


def extended(packet, guid=None, cut=0):
    guid = guid or hashlib.md5(packet).hexdigest().upper().encode()
    parts = [packet[at : at + 300] for at in range(0, len(packet), 300)]
    starts = range(0, len(packet), 300)
    segments = [
        segment(
            0xE1, b"http://ns.adobe.com/xmp/extension/\0" + guid + struct.pack(">LL", len(packet), at) + part
        )
        for at, part in zip(starts, parts, strict=True)
    ]
    return with_segments(*reversed(segments[cut:]))


def test_extended_xmp_is_joined_in_any_order():
    assert declared(extended(TYPE)) == ("ai-generated", "iptc")


def test_extended_xmp_must_be_what_its_name_says():
    assert unreadable(extended(TYPE, guid=b"0" * 32)) == ["JPEG: extended XMP is incomplete"]
    assert unreadable(extended(TYPE, cut=1)) == ["JPEG: extended XMP is incomplete"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        b"BM" + bytes(100),
        b"not an image",
        b"II*\0",
        b"II+\0" + bytes(60),
        b"RIFF\0\0\0\0WEBP",
        b"GIF89a",
        b"\0\0\0\x18ftypavif" + bytes(16),
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_stumps_declare_nothing(data):
    assert read_provenance(data).declared == "none"


def test_a_mark_in_a_thumbnail_or_in_pixels_is_no_mark():
    inner = png({"parameters": A1111})
    assert declared(with_segments(segment(0xE2, inner))) == ("none", "")
    assert declared(encoded("JPEG") + inner) == ("none", "")
    assert declared(with_chunks((b"prVt", b"parameters\0" + A1111.encode()))) == ("none", "")


def test_what_is_before_the_break_counts():
    data = png({"parameters": A1111})
    found = read_provenance(data[:-30])
    assert found.declared == "ai-generated"
    assert [one.says for one in found.evidence] == ["ai-generated", "unreadable"]


@pytest.mark.parametrize(
    "data",
    [
        with_chunks((b"zTXt", b"parameters\0\0not zlib")),
        with_chunks((b"zTXt", b"parameters\0\0" + zlib.compress(bytes(5 << 20)))),
        with_chunks((b"tEXt", b"parameters\0" + b"x" * (5 << 20))),
        with_chunks((b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 4\nzz"))),
        with_segments(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\xff\xff")),
        with_segments(segment(0xE1, b"Exif\0\0nothing")),
        with_segments(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<no xml")),
    ],
)
def test_broken_blocks_are_unreadable_and_spoil_no_others(data):
    assert unreadable(data)
    if data.startswith(b"\x89PNG"):
        marked = png({"parameters": A1111})
        assert declared(data[:-12] + marked[33:]) == ("ai-generated", "png-text")


def test_too_many_blocks_are_too_many():
    data = with_segments(*[segment(0xEF, b"")] * 2000)
    found = read_provenance(data, limits=MetadataLimits(max_blocks=1000))
    assert [one.detail for one in found.evidence] == ["more than 1000 blocks"]


def test_time_is_limited():
    found = read_provenance(png({"parameters": A1111}), limits=MetadataLimits(max_s=0))
    assert found.declared == "none"
    assert "not read within 0 s" in [one.detail for one in found.evidence]


def test_two_packets_are_both_read():
    data = with_xmp(attributes='xmp:CreatorTool="Draw Things"')
    more = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + TYPE)
    found = read_provenance(with_segments(more, data=data))
    assert {one.by for one in found.evidence} == {"iptc", "xmp"}
