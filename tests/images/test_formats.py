"""Which formats are opened, which are only named."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import ImageError, UsageError
from bladescan.base.records import Reason
from bladescan.images import formats as image_formats
from bladescan.images.decoding import decode_image
from bladescan.images.limits import Limits
from tests.images.pictures import LIMITS, corners, encode, first, reason_of


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_every_default_format_is_read(kind):
    decoded = decode_image(encode(corners(), kind), LIMITS)
    assert (decoded.format, decoded.width, decoded.height, decoded.n_frames) == (kind, 48, 32, 1)
    [(index, pixels)] = decoded.frames
    assert index == 0 and pixels.dtype == np.uint8 and pixels.shape == (32, 48, 3)
    # The middles of the quarters, far from the compressed edges between them.
    assert np.abs(pixels[8::16, 12::24].astype(int) - np.asarray(corners())[8::16, 12::24]).max() < 40


def test_heif_is_read_upright_once():
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(corners(64, 48), "HEIF", quality=100, exif=exif.tobytes())
    expected = np.asarray(corners(64, 48).transpose(Image.Transpose.ROTATE_270))
    pixels = first(data)
    assert pixels.shape == expected.shape
    assert np.abs(pixels[8::16, 8::16].astype(int) - expected[8::16, 8::16]).max() < 40


def test_heif_without_its_library_names_what_to_install(monkeypatch):
    def without(name, *args, **kwargs):
        if name == "pillow_heif":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    real = builtins.__import__
    monkeypatch.delitem(sys.modules, "pillow_heif", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    image_formats.register_heif.cache_clear()
    try:
        with pytest.raises(ImageError, match=r"pip install 'bladescan\[heif\]'") as caught:
            decode_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), LIMITS)
    finally:
        image_formats.register_heif.cache_clear()
    assert caught.value.reason is Reason.FORMAT_NOT_ALLOWED


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"%!PS-Adobe-3.0 EPSF", "EPS"),
        (b"\xd7\xcd\xc6\x9a", "WMF"),
        (b"8BPS\0\1", "PSD"),
    ],
)
def test_other_image_formats_are_named_and_never_opened(start, name):
    with pytest.raises(ImageError, match=name) as caught:
        decode_image(start + bytes(200), LIMITS)
    assert caught.value.reason is Reason.FORMAT_NOT_ALLOWED


def test_a_document_is_no_image():
    with pytest.raises(ImageError, match="PDF") as caught:
        decode_image(b"%PDF-1.7" + bytes(200), LIMITS)
    assert caught.value.reason is Reason.NOT_AN_IMAGE


@pytest.mark.parametrize(
    ("name", "says_so"),
    [
        *((name, True) for name in ("a.jpg", "a/b.JPEG", "x.tar.png", "a.nef", "a.heic~", "a.jpg.part")),
        *((name, False) for name in ("a", "jpg", "a.jpg.json", "a.png/readme", "a.txt", "a.", "a.part", "~")),
    ],
)
def test_a_name_says_that_a_file_is_a_picture(name, says_so):
    assert image_formats.names_picture(name) is says_so


def test_every_format_that_is_opened_has_a_name():
    assert all(facts.suffixes for facts in image_formats.IMAGE_FORMATS.values())


@pytest.mark.parametrize(
    ("data", "is_text"),
    [
        (b"P1 of \xe2\x82\xac", True),
        (("é" * 1023).encode(), True),
        (b"BM\x1a\0", False),
        (b"\xff" * 9, False),
    ],
)
def test_text_is_told_from_other_bytes(data, is_text):
    assert image_formats.is_text(data) is is_text


def test_a_format_taken_off_the_list_is_not_opened():
    limits = Limits(formats=frozenset({"PNG"}))
    assert reason_of(encode(corners(), "JPEG"), limits) is Reason.FORMAT_NOT_ALLOWED
    assert first(encode(corners(), "PNG"), limits).shape == (32, 48, 3)


def test_jpeg_2000_is_opened_only_on_request():
    data = encode(corners(), "JPEG2000")
    assert reason_of(data) is Reason.FORMAT_NOT_ALLOWED
    np.testing.assert_array_equal(first(data, Limits(formats=frozenset({"JPEG2000"}))), np.asarray(corners()))


def test_limits_refuse_unknown_formats_and_zero():
    with pytest.raises(UsageError, match="EPS"):
        Limits(formats=frozenset({"EPS"}))
    with pytest.raises(UsageError, match="max_frames"):
        Limits(max_frames=0)
