"""JPEGs: the picture at the beginning of the file, whatever surrounds it; inks, kinds that are not opened."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from bladescan.base.records import Reason
from bladescan.images.decoding import decode_image
from bladescan.images.jpeg_markers import count_scans
from bladescan.images.limits import Limits
from tests.images.pictures import corners, encode, first, off, reason_of, refusal_of

PLAIN = encode(corners(), "JPEG", quality=95)
SHOWN = np.asarray(Image.open(io.BytesIO(PLAIN)).convert("RGB"))


def with_segment(marker: int, body: bytes, data: bytes = PLAIN) -> bytes:
    return data[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + data[2:]


# What a phone appends: a film whose bytes look like scans, a second exposure, a gain map, a trailer.
APPENDED = {
    "film": b"\0\0\0\x18ftypmp42" + b"\xff\xda\0\x08" * 20_000,
    "second-picture": encode(corners(), "JPEG", progressive=True),
    "gain-map": encode(corners().convert("L"), "JPEG"),
    "raw": b"@BRCM" + bytes(20_000),
    "samsung-trailer": b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data" + bytes(5000) + b"SEFT",
    "zeros": bytes(3000),
    "text": b"<script>alert(1)</script>",
    "zip": b"PK\3\4" + bytes(2000),
    "end-marks": b"\xff\xd9" * 2000,
}


@pytest.mark.parametrize("name", APPENDED)
def test_what_is_appended_is_not_the_picture(name):
    np.testing.assert_array_equal(first(PLAIN + APPENDED[name]), SHOWN)


@pytest.mark.parametrize("name", APPENDED)
def test_scans_are_counted_in_the_picture(name):
    progressive = encode(corners(), "JPEG", progressive=True)
    n_scans = progressive.count(b"\xff\xda")
    assert n_scans > 5 and count_scans(progressive + APPENDED[name], 0) == n_scans


def test_a_film_behind_a_large_picture_is_no_bomb():
    np.testing.assert_array_equal(first(PLAIN + APPENDED["film"], Limits(max_pixels=1 << 16)), SHOWN)


def test_scans_inside_a_preview_are_not_the_pictures():
    preview = encode(corners(), "JPEG", progressive=True)
    assert count_scans(with_segment(0xE1, b"Exif\0\0" + preview), 0) == 1


def test_a_damaged_picture_before_something_else_is_not_called_cut():
    cut = PLAIN[: len(PLAIN) // 2]
    assert reason_of(cut) is Reason.TRUNCATED
    assert reason_of(cut + bytes(4000)) in (Reason.TRUNCATED, Reason.CORRUPT)


NONSENSE = [b"", b"\0", b"\xff" * 9, bytes(range(60))]


@pytest.mark.parametrize("body", NONSENSE, ids=len)
@pytest.mark.parametrize(
    ("marker", "head"),
    [
        (0xE0, b"JFIF\0"),
        (0xE1, b"Exif\0\0"),
        (0xE1, b"Exif\0\0II*\0\x08\0\0\0"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"ICC_PROFILE\0\1\2"),
        (0xE2, b"MPF\0"),
        (0xE2, b"MPF\0MM\0*\0\0\0\x08"),
        (0xED, b"Photoshop 3.0\0"),
        (0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0"),
        (0xEE, b"Adobe"),
        (0xFE, b""),
    ],
    ids=str,
)
def test_nonsense_in_metadata_loses_no_picture(marker, head, body):
    np.testing.assert_array_equal(first(with_segment(marker, head + body)), SHOWN)


def cmyk(adobe: bool, ink: int = 40) -> bytes:
    """One flat tone of cyan ink; Adobe writes the opposite numbers, and a segment that says it is Adobe's."""
    picture = Image.new("CMYK", (32, 32), (ink, 0, 0, 0))
    data = encode(
        picture if adobe else Image.new("CMYK", (32, 32), (255 - ink, 255, 255, 255)), "JPEG", quality=98
    )
    at = data.index(b"\xff\xee")
    return data if adobe else data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_is_a_negative_only_if_adobe_wrote_it(adobe):
    assert off(cmyk(adobe), np.full((32, 32, 3), (255 - 40, 255, 255))) <= 6


def test_ycck_is_read():
    """The same inks, which libjpeg has made of luminance and colours: transform 2 in Adobe's segment."""
    data = bytearray(encode(Image.new("CMYK", (32, 32), (0, 0, 0, 100)), "JPEG", quality=98))
    at = data.index(b"Adobe")
    data[at + 11] = 2
    pixels = first(bytes(data))[0, 0].astype(int)
    # Inverted: Y, Cb, Cr of 255 are no grey, so the picture must differ from what transform 0 gives.
    assert (
        np.abs(pixels - first(encode(Image.new("CMYK", (32, 32), (0, 0, 0, 100)), "JPEG"))[0, 0]).max() > 20
    )


def with_frame(marker: int, bits: int, n: int) -> bytes:
    """The picture, its frame header replaced by one of another kind."""
    at = PLAIN.index(b"\xff\xc0")
    components = b"".join(bytes((i + 1, 0x11, 0)) for i in range(n))
    frame = struct.pack(">BHHB", bits, 32, 48, n) + components
    rest = PLAIN[at + 2 + int.from_bytes(PLAIN[at + 2 : at + 4], "big") :]
    return PLAIN[:at] + bytes((0xFF, marker)) + struct.pack(">H", len(frame) + 2) + frame + rest


KINDS = {
    "12-bits": (with_frame(0xC1, 12, 3), "JPEG of 12 bits"),
    "lossless-of-16-bits": (with_frame(0xC3, 16, 1), "lossless"),
    "hierarchical": (with_frame(0xC5, 8, 3), "hierarchical"),
    "arithmetic-lossless": (with_frame(0xCB, 8, 3), "lossless"),
    "jpeg-ls": (with_frame(0xF7, 8, 3), "JPEG-LS"),
    "two-components": (with_frame(0xC0, 8, 2), "2 components"),
    "height-behind-the-pixels": (
        with_frame(0xC0, 8, 3).replace(struct.pack(">BHH", 8, 32, 48), struct.pack(">BHH", 8, 0, 48)),
        "height behind",
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_that_is_not_opened_is_named_and_not_called_corrupt(name):
    data, said = KINDS[name]
    reason, detail = refusal_of(data)
    assert reason is Reason.FORMAT_NOT_ALLOWED and said in detail


def test_a_frame_header_that_makes_no_sense_is_no_kind():
    data = with_frame(0xC0, 8, 3)
    at = data.index(b"\xff\xc0")
    assert reason_of(data[: at + 4] + b"\x63" + data[at + 5 :]) in (Reason.CORRUPT, Reason.TRUNCATED)


def test_the_first_picture_is_shown_although_its_index_of_pictures_is_broken():
    data = encode(corners(), "MPO", save_all=True, append_images=[Image.new("RGB", (24, 24))], quality=95)
    at = data.index(b"MPF\0") + 4
    for start, body in ((at, b"XX"), (at + 8, b"\xff\xff"), (at + 10, b"\xff" * 12)):
        broken = data[:start] + body + data[start + len(body) :]
        assert decode_image(broken, Limits()).width == 48
        assert np.abs(first(broken).astype(int) - SHOWN).max() < 12


def test_a_grey_jpeg_and_one_of_rgb_that_says_so():
    flat = Image.new("RGB", (32, 32), (200, 90, 60))
    assert (
        off(encode(flat.convert("L"), "JPEG", quality=98), np.asarray(flat.convert("L").convert("RGB"))) <= 2
    )
    assert off(encode(flat, "JPEG", quality=98, keep_rgb=True), np.asarray(flat)) <= 3


def test_a_million_markers_are_counted_as_a_bomb_in_little_time():
    empty_scan, empty_note = b"\xff\xda\0\2", b"\xff\xfe\0\2"
    data = PLAIN[:-2] + (empty_note * 20 + empty_scan) * 60_000 + PLAIN[-2:]
    assert count_scans(data, 30_000) > 30_000
    assert reason_of(data) is Reason.TOO_MANY_PIXELS
