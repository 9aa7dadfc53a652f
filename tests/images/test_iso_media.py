"""AVIF and HEIF: colours and turns that their boxes state, broken EXIF, ten bits, what is appended."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from bladescan.base.records import Reason
from bladescan.images.iso_boxes import code_points
from tests.images import profiles_made as made
from tests.images.pictures import corners, encode, first, reason_of

SKIN = (200, 140, 110)
TAIL = {"zeros": bytes(3000), "text": b"<script>alert(1)</script>", "noise": b"\xff\xd8\xff\xe0" * 700}


@pytest.fixture(params=["AVIF", "HEIF"])
def kind(request) -> str:
    if request.param == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    return request.param


def with_code_points(data: bytes, primaries: int, transfer: int) -> bytes:
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def flat(kind: str, colour: tuple[int, int, int] = SKIN) -> bytes:
    return encode(Image.new("RGB", (64, 48), colour), kind, quality=100)


def shown(data: bytes) -> np.ndarray:
    return first(data)[20, 20].astype(float)


@pytest.mark.parametrize("points", [(1, 13), (1, 1), (2, 2), (99, 99), (1, 99)])
def test_code_points_that_say_srgb_or_nothing_change_nothing(kind, points):
    np.testing.assert_array_equal(first(with_code_points(flat(kind), *points)), first(flat(kind)))


def test_code_points_of_another_gamut_are_applied(kind):
    expected = made.meant(made.srgb_decoded(shown(flat(kind))), made.P3_XY)
    data = with_code_points(flat(kind), 12, 13)
    assert code_points(data) == (12, 13)
    assert np.abs(shown(data) - expected).max() <= 3


def test_hdr_is_shown_as_on_an_ordinary_screen(kind):
    level = int(np.abs(made.pq(np.arange(256) / 255) - 60).argmin())
    data = with_code_points(flat(kind, (level,) * 3), 9, 16)
    assert np.abs(shown(data) - made.srgb_encoded(made.on_screen(60))).max() <= 6


def test_a_profile_comes_before_code_points(kind):
    data = encode(Image.new("RGB", (64, 48), SKIN), kind, quality=100, icc_profile=made.P3)
    expected = made.meant(made.srgb_decoded(np.array(SKIN)), made.P3_XY)
    assert np.abs(shown(data) - expected).max() <= 5


@pytest.mark.parametrize("tail", TAIL)
def test_what_is_appended_is_not_the_picture(kind, tail):
    data = encode(corners(64, 48), kind, quality=100)
    np.testing.assert_array_equal(first(data + TAIL[tail]), first(data))


def test_a_film_in_a_box_of_its_own_is_not_the_picture(kind):
    data = encode(corners(64, 48), kind, quality=100)
    film = struct.pack(">I4s", 20_008, b"mpvd") + b"\xff\xda\0\x08" * 5000
    np.testing.assert_array_equal(first(data + film), first(data))


def test_a_file_that_is_cut_is_truncated(kind):
    assert reason_of(encode(corners(64, 48), kind, quality=100)[:-60]) is Reason.TRUNCATED


BROKEN_EXIF = [b"", b"Exif\0\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"nonsense" * 9]


@pytest.mark.parametrize("exif", BROKEN_EXIF, ids=len)
def test_broken_exif_loses_no_picture(kind, exif):
    good = Image.Exif()
    good[0x010F] = "x" * 80
    data = bytearray(encode(corners(64, 48), kind, quality=100, exif=good.tobytes()))
    at = data.rindex(b"Exif\0\0") if data.count(b"Exif\0\0") > 1 else data.index(b"MM\0*")
    data[at : at + 60] = exif[:60].ljust(60, b"\xff")
    assert first(bytes(data)).shape == (48, 64, 3)


TURNS = {
    "irot-1": (b"irot", 1, Image.Transpose.ROTATE_90),
    "irot-2": (b"irot", 2, Image.Transpose.ROTATE_180),
    "irot-3": (b"irot", 3, Image.Transpose.ROTATE_270),
}


@pytest.mark.parametrize("name", TURNS)
def test_an_avif_is_turned_by_its_box_and_not_by_its_exif(name):
    _, quarter_turns, method = TURNS[name]
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encode(corners(64, 48), "AVIF", quality=100, exif=exif.tobytes()))
    at = data.index(b"irot") + 4
    data[at] = quarter_turns
    expected = np.asarray(corners(64, 48).transpose(method))
    pixels = first(bytes(data))
    assert pixels.shape == expected.shape
    assert np.abs(pixels[4::8, 4::8].astype(int) - expected[4::8, 4::8]).max() < 40


def test_ten_bits_are_scaled_to_eight():
    """A ramp of ten bits, which only HEIF can be asked for here."""
    pillow_heif = pytest.importorskip("pillow_heif")
    levels = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
    samples = np.repeat(levels[..., None], 3, axis=2)
    file = pillow_heif.from_bytes("RGB;16", (64, 48), samples.tobytes())
    out = io.BytesIO()
    file.save(out, quality=100, chroma=444)
    pixels = first(out.getvalue()).astype(float)
    assert np.abs(pixels[24] - levels[24][:, None] / 257).max() <= 6
