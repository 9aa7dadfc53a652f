"""The nine tags, from every format that carries them."""

import pickle
import struct
import zlib

import piexif
import pytest
from piexif import ImageIFD
from PIL import PngImagePlugin, features

from bladescan.exif import raw_fields
from bladescan.exif.tags import EXIF_TASKS, Exif, read_exif
from bladescan.tasks.pretext_tasks import PAPER_TAGS, TASKS
from tests.exif.made import EXPECTED, block, jpeg, picture

# ---------------------------------------------------------------------------------------------- whole files


def test_there_are_nine_tasks_in_the_order_of_the_table():
    assert EXIF_TASKS == PAPER_TAGS == tuple(TASKS)[2:11]


def test_a_jpeg_gives_all_nine_tags_in_plain_units_and_classes():
    found = read_exif(jpeg())
    assert found.tags == EXPECTED
    assert tuple(found.tags) == EXIF_TASKS
    assert found.camera == "nikon d70" and found.software == "Ver.1.0"


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_every_format_that_carries_exif_gives_the_same(kind):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif", reason="HEIF needs pillow-heif").register_heif_opener()
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    assert read_exif(picture(kind, exif=block())).tags == EXPECTED


def test_bare_exif_and_its_bare_tiff_structure_are_read():
    assert read_exif(block()).tags == EXPECTED
    assert read_exif(block()[6:]).tags == EXPECTED


def test_a_png_may_carry_its_exif_behind_the_pixels():
    png = picture("PNG")
    body = block()[6:]
    chunk = struct.pack(">L", len(body)) + b"eXIf" + body + struct.pack(">L", zlib.crc32(b"eXIf" + body))
    assert read_exif(png[:-12] + chunk + png[-12:]).tags == EXPECTED


def test_a_png_may_carry_imagemagicks_profile():
    info = PngImagePlugin.PngInfo()
    raw = block()
    info.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n", zip=True)
    assert read_exif(picture("PNG", pnginfo=info)).tags == EXPECTED


def test_a_png_too_large_to_decode_for_it_is_not_decoded(monkeypatch):
    monkeypatch.setattr(raw_fields, "MAX_DECODED_PIXELS", 15)
    assert read_exif(picture("PNG")).tags == {}
    assert read_exif(picture("PNG", exif=block())).tags == EXPECTED


def test_a_jpeg_cut_short_behind_its_exif_is_still_read():
    whole = jpeg()
    end = whole.index(b"Exif") + len(block())
    assert read_exif(whole[:end]).tags == EXPECTED


def test_segments_before_the_exif_and_fill_bytes_are_passed_over():
    whole = jpeg()
    comment = b"\xff\xff\xff\xfe" + struct.pack(">H", 2 + 5) + b"hello"
    assert read_exif(whole[:2] + comment + whole[2:]).tags == EXPECTED


def test_big_endian_and_little_endian_say_the_same():
    little = bytearray(b"II*\0\x08\0\0\0\x02\0")
    little += struct.pack("<HHL4s", 0x010F, 2, 4, b"SONY") + struct.pack("<HHLL", 0x8769, 4, 1, 38) + bytes(4)
    little += struct.pack("<HHHLHHL", 1, 0x8827, 3, 1, 200, 0, 0)
    found = read_exif(bytes(little))
    assert found.tags == {"iso_speed": 200.0, "make": "Sony"}  # and a text without NUL keeps its last letter


def test_the_thumbnails_directory_is_not_read():
    raw = piexif.dump(
        {"0th": {ImageIFD.Make: b"Canon"}, "1st": {ImageIFD.Make: b"Nikon", ImageIFD.Model: b"D1"}}
    )
    found = read_exif(raw)
    assert found.tags == {"make": "Canon"} and found.camera == "canon"


def test_tags_in_the_wrong_directory_are_found():
    raw = bytearray(b"II*\0\x08\0\0\0\x01\0") + struct.pack("<HHLHH", 0xA402, 3, 1, 1, 0) + bytes(4)
    assert read_exif(bytes(raw)).tags == {"exposure_mode": "manual"}


def test_a_broken_neighbour_spoils_nothing():
    raw = bytearray(b"II*\0\x08\0\0\0\x03\0")
    raw += struct.pack("<HHLL", 0x0110, 2, 1 << 31, 1 << 30)  # a text of two gigabytes
    raw += struct.pack("<HHLL", 0x829A, 99, 1, 0)  # a type that does not exist
    raw += struct.pack("<HHL4s", 0x010F, 2, 4, b"SONY") + bytes(4)
    assert read_exif(bytes(raw)).tags == {"make": "Sony"}


def test_a_file_without_exif_has_nothing():
    for data in (picture(), picture("PNG"), picture("GIF"), b"", b"\xff\xd8", b"II", b"text", b"Exif"):
        assert read_exif(data) == Exif({}, "", "")


def test_the_result_crosses_processes():
    found = read_exif(jpeg())
    assert pickle.loads(pickle.dumps(found)) == found
