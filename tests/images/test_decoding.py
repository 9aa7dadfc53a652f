from __future__ import annotations

import builtins
import io
import os
import random
import socket
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from bladescan.base.errors import ImageError, UsageError
from bladescan.base.records import Reason
from bladescan.images import formats as image_formats
from bladescan.images.decoding import DecodedImage, decode_image
from bladescan.images.files import read_file
from bladescan.images.limits import MOST_BYTES, Limits

LIMITS = Limits()


def corners(width: int = 48, height: int = 32) -> Image.Image:
    """A picture that no flip or turn leaves as it is: four flat quarters of different colours."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (250, 20, 20)
    pixels[: height // 2, width // 2 :] = (20, 250, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 250)
    pixels[height // 2 :, width // 2 :] = (200, 200, 60)
    return Image.fromarray(pixels)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def first(data: bytes, limits: Limits = LIMITS) -> np.ndarray:
    return next(decode_image(data, limits).frames)[1]


def everything(decoded: DecodedImage) -> list[tuple[int, np.ndarray]]:
    return list(decoded.frames)


def reason_of(data: bytes, limits: Limits = LIMITS) -> Reason:
    with pytest.raises(ImageError) as caught:
        everything(decode_image(data, limits))
    assert "\n" not in caught.value.detail and caught.value.detail
    return caught.value.reason


def animation(n_frames: int, kind: str = "GIF") -> bytes:
    frames = [Image.new("RGB", (20, 20), (10 * i, 255 - 10 * i, 128)) for i in range(n_frames)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **lossless)


# ---- formats


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


# ---- orientation


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


# ---- modes and colour


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "LAB", "YCbCr", "LA", "RGBA"])
def test_every_mode_becomes_rgb(mode):
    kind = "PNG" if mode in ("1", "L", "P", "RGB", "LA", "RGBA") else "TIFF"
    source = (
        corners()
        if mode != "LAB"
        else ImageCms.profileToProfile(
            corners(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    )
    source = source if mode == "LAB" else source.convert(mode)
    shown = source if mode not in ("LA", "RGBA") else source.convert(mode.removesuffix("A"))
    expected = np.asarray(shown.convert("RGB"))
    pixels = first(encode(source, kind))
    assert np.abs(pixels.astype(int) - expected).max() <= 12


def test_adobe_inverted_cmyk_jpeg_is_not_a_negative():
    pixels = first(encode(Image.new("RGB", (32, 32), (230, 120, 90)).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(pixels.astype(int) - (230, 120, 90)).max() < 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind):
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (32, 1))
    pixels = first(encode(Image.fromarray(ramp), kind))
    np.testing.assert_array_equal(pixels[..., 0], np.rint(ramp / 257).astype(np.uint8))
    assert (pixels[..., 0] == pixels[..., 2]).all()


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 255.0), (0.0, 65535.0), (-3.0, 9e6)])
def test_float_grey_spans_black_to_white(low, high):
    ramp = np.tile(np.linspace(low, high, 64, dtype=np.float32), (32, 1))
    ramp[5, 5] = np.nan
    pixels = first(encode(Image.fromarray(ramp), "TIFF"))[0, :, 0]
    assert pixels[0] == 0 and pixels[-1] == 255 and (np.diff(pixels.astype(int)) >= 0).all()
    assert abs(int(pixels[32]) - 255 * 32 / 63) <= 1


def test_flat_float_grey_is_read():
    assert first(encode(Image.fromarray(np.full((20, 20), -7.0, np.float32)), "TIFF")).shape == (20, 20, 3)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_transparent_pixels_show_white(kind):
    image = Image.new("RGBA", (20, 20), (200, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 10, 20))
    pixels = first(encode(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    np.testing.assert_array_equal(pixels[:, :10], 255)
    np.testing.assert_array_equal(pixels[0, 15], (200, 0, 0))


def test_half_transparent_is_blended_with_white():
    pixels = first(encode(Image.new("RGBA", (20, 20), (0, 0, 0, 128)), "PNG"))
    assert abs(int(pixels[0, 0, 0]) - (255 - 128)) <= 1


def test_an_srgb_profile_and_a_broken_one_change_nothing():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile", srgb[:200]):
        pixels = first(encode(corners(), "PNG", icc_profile=profile))
        np.testing.assert_array_equal(pixels, np.asarray(corners()))


def test_a_profile_of_another_colour_space_is_left_alone():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    np.testing.assert_array_equal(first(encode(corners(), "PNG", icc_profile=lab)), np.asarray(corners()))


def test_a_wide_gamut_profile_is_applied(data_dir):
    for path in sorted((data_dir / "photographs").rglob("*.jpg")):
        with Image.open(path) as image:
            profile = image.info.get("icc_profile", b"")
            if b"Adobe RGB" in profile and image.mode == "RGB" and min(image.size) >= 16:
                plain = np.asarray(image)
                assert np.abs(first(encode(image, "PNG", icc_profile=profile)).astype(int) - plain).max() > 0
                return
    pytest.fail("no photograph with an Adobe RGB profile")


# ---- frames


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_frames_are_spread_evenly_from_first_to_last(kind):
    decoded = decode_image(animation(20, kind), Limits(max_frames=4))
    frames = everything(decoded)
    assert decoded.n_frames == 20
    assert [index for index, _ in frames] == [0, 6, 13, 19]
    for index, pixels in frames:
        assert np.abs(pixels[0, 0].astype(int) - (10 * index, 255 - 10 * index, 128)).max() <= 2


def test_frames_beyond_the_pixel_budget_are_not_played():
    frames = everything(decode_image(animation(20), Limits(max_frames=4, max_total_pixels=7 * 400)))
    assert [index for index, _ in frames] == [0, 2, 4, 6]


def test_later_frames_are_decoded_only_when_asked_for():
    data = animation(4, "PNG")
    at = data.rindex(b"fdAT")
    decoded = decode_image(data[: at + 8] + bytes(4) + data[at + 12 :], LIMITS)
    assert next(decoded.frames)[0] == 0
    with pytest.raises(ImageError):
        everything(decoded)


def test_only_the_first_picture_of_an_mpo_is_read():
    data = encode(corners(), "MPO", save_all=True, append_images=[Image.new("RGB", (24, 24))])
    decoded = decode_image(data, LIMITS)
    assert (decoded.format, decoded.n_frames) == ("MPO", 2)
    assert [(i, p.shape) for i, p in decoded.frames] == [(0, (32, 48, 3))]


# ---- reasons


def test_each_refusal_has_its_reason():
    png = encode(corners(), "PNG")
    assert reason_of(b"") is Reason.EMPTY
    assert reason_of(b"hello, world") is Reason.NOT_AN_IMAGE
    assert reason_of(png, Limits(max_bytes=10)) is Reason.TOO_MANY_BYTES
    assert reason_of(png, Limits(max_pixels=48 * 32 - 1)) is Reason.TOO_MANY_PIXELS
    assert reason_of(encode(Image.new("L", (15, 90)), "PNG")) is Reason.TOO_SMALL
    assert reason_of(png[:-40]) is Reason.TRUNCATED
    assert reason_of(png[:60] + bytes(60) + png[120:]) is Reason.CORRUPT


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_the_pixel_limit_holds_for_every_format(kind):
    assert reason_of(encode(corners(), kind), Limits(max_pixels=1000)) is Reason.TOO_MANY_PIXELS


def test_pillows_own_bomb_guard_is_our_reason():
    huge = bytearray(encode(Image.new("P", (20, 20)), "GIF"))
    huge[6:10] = b"\xff\xff\xff\xff"
    assert reason_of(bytes(huge)) is Reason.TOO_MANY_PIXELS


def test_warnings_neither_print_nor_escape(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first(encode(corners(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_every_prefix_is_an_error_or_the_full_picture(kind):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    whole = first(data)
    lengths = {*range(len(data) - 24, len(data)), *range(0, len(data), 1 + len(data) // 300)}
    for length in sorted(lengths):
        try:
            frames = everything(decode_image(data[:length], LIMITS))
        except ImageError:
            continue
        np.testing.assert_array_equal(frames[0][1], whole, err_msg=f"{length} of {len(data)} bytes")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_every_prefix_of_an_animation_is_an_error_or_all_its_frames(kind):
    data = animation(3, kind)
    for length in range(len(data)):
        try:
            frames = everything(decode_image(data[:length], LIMITS))
        except ImageError:
            continue
        assert [index for index, _ in frames] == [0, 1, 2]


def test_a_jpeg_without_its_end_mark_is_truncated():
    assert reason_of(encode(corners(), "JPEG")[:-2]) is Reason.TRUNCATED


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_flipped_bytes_raise_only_image_errors(kind):
    data = encode(corners(), kind)
    rng = random.Random(kind)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            # Half of them in the header, or a plain format would only change its colours.
            damaged[rng.randrange(rng.choice((16, len(data))))] = rng.randrange(256)
        try:
            everything(decode_image(bytes(damaged), Limits(max_pixels=1_000_000)))
            outcomes.add("read")
        except ImageError as exc:
            outcomes.add(exc.reason)
    assert len(outcomes) > 1


# ---- files


def read_reason(path: Path | str, **options) -> Reason:
    with pytest.raises(ImageError) as caught:
        read_file(str(path), LIMITS, **options)
    return caught.value.reason


def test_a_file_is_read_whole(tmp_path):
    data = os.urandom(200_001)
    (tmp_path / "a").write_bytes(data)
    assert read_file(str(tmp_path / "a"), LIMITS) == data
    assert read_file(str(tmp_path / "a"), Limits(max_bytes=200_001)) == data


def test_a_file_whose_size_says_nothing_is_read():
    assert read_file("/proc/self/status", LIMITS).startswith(b"Name:")


def test_names_that_are_not_utf8_are_read(tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    Path(os.fsdecode(name)).write_bytes(b"x")
    assert read_file(os.fsdecode(name), LIMITS) == b"x"


def test_a_fifo_a_socket_a_device_and_a_folder_are_not_files(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    found = []
    reader = threading.Thread(target=lambda: found.append(read_reason(tmp_path / "fifo")), daemon=True)
    reader.start()
    reader.join(20)
    assert found == [Reason.NOT_A_FILE]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert read_reason(tmp_path / "s") is Reason.NOT_A_FILE
    assert read_reason("/dev/zero") is Reason.NOT_A_FILE
    assert read_reason(tmp_path) is Reason.NOT_A_FILE


def test_missing_files_are_told_from_vanished_ones(tmp_path):
    assert read_reason(tmp_path / "no") is Reason.NOT_FOUND
    assert read_reason(tmp_path / "no", listed=True) is Reason.VANISHED
    assert read_reason("a\0b") is Reason.NOT_FOUND
    assert read_reason("x" * 5000) is Reason.NOT_FOUND


def test_empty_and_oversized_files_have_their_reasons(tmp_path):
    (tmp_path / "empty").touch()
    assert read_reason(tmp_path / "empty") is Reason.EMPTY
    (tmp_path / "big.jpg").write_bytes(b"12345678901")
    with pytest.raises(ImageError) as caught:
        read_file(str(tmp_path / "big.jpg"), Limits(max_bytes=10))
    assert caught.value.reason is Reason.TOO_MANY_BYTES


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_permission_denied(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "a").chmod(0)
    assert read_reason(tmp_path / "a") is Reason.PERMISSION_DENIED


# ---- Pillow's form and arrays


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_pictures_that_are_kept_do_not_turn_into_later_frames(kind):
    data = animation(5, kind)
    kept = [np.asarray(picture) for _, picture in list(decode_image(data, LIMITS).pictures)]
    one_by_one = [pixels.copy() for _, pixels in decode_image(data, LIMITS).frames]
    np.testing.assert_array_equal(kept, one_by_one)
    assert len({pixels.tobytes() for pixels in kept}) == 5


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "F"])
def test_pictures_are_loaded_rgb_whatever_the_mode_of_the_file(mode):
    data = encode(
        corners().convert("L").convert(mode) if mode in ("F", "I;16") else corners().convert(mode), "TIFF"
    )
    ((_, picture),) = decode_image(data, LIMITS).pictures
    assert (picture.mode, picture.size) == ("RGB", (48, 32))
    np.testing.assert_array_equal(picture, first(data))


# ---- real files


@pytest.fixture(scope="module")
def hostile(data_dir) -> Path:
    return data_dir / "hostile"


def test_hostile_files_raise_only_image_errors(hostile):
    outcomes = {"read": 0}
    for path in sorted(p for p in hostile.rglob("*") if p.is_file()):
        try:
            for _, pixels in decode_image(read_file(str(path), LIMITS), LIMITS).frames:
                assert pixels.ndim == 3 and pixels.shape[2] == 3
            outcomes["read"] += 1
        except ImageError as exc:
            outcomes[exc.reason.value] = outcomes.get(exc.reason.value, 0) + 1
    assert outcomes["read"] > 300 and outcomes["truncated"] > 400 and outcomes["corrupt"] > 50


def test_orientation_of_real_files_agrees_with_pillow(hostile):
    files = sorted((hostile / "pillow").glob("*orientation*"))
    assert len(files) >= 8
    for path in files:
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        pixels = first(path.read_bytes(), Limits(min_side=1))
        np.testing.assert_array_equal(pixels.shape, expected.shape, err_msg=path.name)
        # A colour profile may shift the colours, never move them.
        assert np.abs(pixels.astype(int) - expected).mean() < 20, path.name


def test_no_more_bytes_are_allowed_than_a_message_to_a_decoder_can_hold():
    assert Limits(max_bytes=MOST_BYTES).max_bytes < 2**32 - 2**20
    with pytest.raises(UsageError, match="max_bytes must be at most 4000000000, got 4000000001"):
        Limits(max_bytes=MOST_BYTES + 1)
