"""Profiles are judged by what they do to colours; what files say of colours otherwise counts as well."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from bladescan.images.profiles import to_srgb
from tests.images import png_files as p
from tests.images import profiles_made as made
from tests.images.pictures import corners, encode, first, ramp

SKIN = (200, 140, 110)
CONTAINERS = ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"]


def flat(colour: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (32, 32), colour)


def shown(data: bytes) -> np.ndarray:
    return first(data)[16, 16].astype(float)


def exactly(kind: str) -> dict[str, object]:
    return {
        "JPEG": {"quality": 100, "subsampling": 0},
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 100},
    }.get(kind, {})


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize(
    ("profile", "xy", "decode"),
    [
        pytest.param(made.P3, made.P3_XY, made.srgb_decoded, id="display-p3"),
        pytest.param(
            made.ADOBE_RGB, made.ADOBE_XY, lambda v: (np.array(v) / 255) ** (563 / 256), id="adobe-rgb"
        ),
        pytest.param(
            made.rgb("sRGB IEC61966-2.1", made.P3_XY, made.SRGB_CURVE),
            made.P3_XY,
            made.srgb_decoded,
            id="called-srgb-with-other-primaries",
        ),
        pytest.param(
            made.rgb("sRGB", made.SRGB_XY, made.gamma(1.0)),
            made.SRGB_XY,
            lambda v: np.array(v) / 255,
            id="called-srgb-and-linear",
        ),
        pytest.param(
            made.rgb("", made.BT2020_XY, made.gamma(2.4)),
            made.BT2020_XY,
            lambda v: (np.array(v) / 255) ** 2.4,
            id="bt2020-without-a-name",
        ),
    ],
)
def test_a_profile_is_applied_whatever_it_is_called(profile, xy, decode, kind):
    data = encode(flat(SKIN), kind, icc_profile=profile, **exactly(kind))
    assert np.abs(shown(data) - made.meant(decode(SKIN), xy)).max() <= 4


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("name", ["", "sRGB IEC61966-2.1", "Display P3", "PQ", "HLG", "Adobe RGB (1998)"])
def test_a_profile_that_is_srgb_changes_nothing_whatever_it_is_called(name, kind):
    plain = encode(corners(), kind, **exactly(kind))
    data = encode(corners(), kind, icc_profile=made.rgb(name, made.SRGB_XY, made.SRGB_CURVE), **exactly(kind))
    np.testing.assert_array_equal(first(data), first(plain))


def test_a_profile_nearly_srgb_is_taken_for_it():
    """Primaries a little off, a coarse curve: as makers of small profiles write it."""
    coarse = made.curve(made.srgb_decoded(np.arange(256) / 255 * 255))
    assert to_srgb(made.rgb("c2", ((0.6401, 0.3301), (0.3001, 0.6), (0.15, 0.0601)), coarse), "RGB") is None
    assert to_srgb(made.rgb("", made.SRGB_XY, made.gamma(1.8)), "RGB") is not None


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize(
    "profile",
    [
        pytest.param(b"no profile", id="text"),
        pytest.param(made.P3[:200], id="cut"),
        pytest.param(made.P3[:128] + b"\xff" * 64 + made.P3[192:], id="wrong-table"),
        pytest.param(made.profile(b"RGB ", {}), id="without-tags"),
        pytest.param(bytes(4000), id="zeros"),
    ],
)
def test_a_broken_profile_loses_no_picture_and_changes_nothing(profile, kind):
    plain = first(encode(corners(), kind, **exactly(kind)))
    np.testing.assert_array_equal(first(encode(corners(), kind, icc_profile=profile, **exactly(kind))), plain)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_a_grey_profile_is_applied_to_every_kind_of_grey(mode):
    profile = made.grey("Dot Gain 20%", made.gamma(1.2))
    value = 255 if mode == "1" else 100
    picture = flat(value, mode) if mode != "LA" else flat((value, 255), mode)
    expected = made.srgb_encoded(np.array((value / 255) ** 1.2))
    assert np.abs(shown(encode(picture, "PNG", icc_profile=profile)) - expected).max() <= 2


def test_a_grey_profile_is_applied_to_grey_of_sixteen_bits():
    profile = made.grey("gamma", made.gamma(1.0))
    samples = np.full((32, 32), 100 * 257, np.uint16)
    expected = made.srgb_encoded(np.array(100 / 255))
    for kind in ("PNG", "TIFF"):
        data = encode(Image.fromarray(samples), kind, icc_profile=profile)
        assert np.abs(shown(data) - expected).max() <= 2


def test_a_grey_profile_that_is_srgb_changes_nothing():
    picture = Image.fromarray(np.rint(ramp() * 255).astype(np.uint8))
    plain = first(encode(picture, "PNG"))
    np.testing.assert_array_equal(
        first(encode(picture, "PNG", icc_profile=made.grey("", made.SRGB_CURVE))), plain
    )


def test_inks_are_shown_by_their_profile():
    for kind, options in (("JPEG", {"quality": 100}), ("TIFF", {})):
        data = encode(Image.new("CMYK", (32, 32), (255, 0, 0, 0)), kind, icc_profile=made.cmyk(), **options)
        assert np.abs(shown(data) - made.srgb_encoded(np.array([0.2, 1, 1]))).max() <= 6
        plain = encode(Image.new("CMYK", (32, 32), (255, 0, 0, 0)), kind, **options)
        assert np.abs(shown(plain) - (0, 255, 255)).max() <= 6


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("RGB", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()),
        ("RGB", made.grey("", made.gamma(1.0))),
        ("RGB", made.cmyk()),
        ("L", made.P3),
    ],
    ids=["lab-for-rgb", "grey-for-rgb", "cmyk-for-rgb", "rgb-for-grey"],
)
def test_a_profile_of_another_colour_space_changes_nothing(mode, profile):
    picture = corners().convert(mode)
    np.testing.assert_array_equal(
        first(encode(picture, "PNG", icc_profile=profile)), first(encode(picture, "PNG"))
    )


def test_colours_are_converted_before_they_are_blended_with_white():
    picture = Image.new("RGBA", (32, 32), (*SKIN, 128))
    data = encode(picture, "PNG", icc_profile=made.P3)
    solid = made.meant(made.srgb_decoded(np.array(SKIN)), made.P3_XY)
    assert np.abs(shown(data) - (solid * 128 + 255 * 127) / 255).max() <= 2


def test_a_palette_has_a_profile_too():
    picture = flat(SKIN).convert("P", palette=Image.Palette.ADAPTIVE)
    expected = made.meant(made.srgb_decoded(np.array(SKIN)), made.P3_XY)
    assert np.abs(shown(encode(picture, "PNG", icc_profile=made.P3)) - expected).max() <= 3


# ---- PNG without a profile


def png(colour: tuple[int, int, int], *chunks: bytes) -> bytes:
    return p.write(np.full((32, 32, 3), colour, np.uint8), p.RGB, *chunks)


def gama(gamma: float) -> bytes:
    return p.chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))


def chrm(xy: tuple[tuple[float, float], ...]) -> bytes:
    points = (made.D65, *xy)
    return p.chunk(b"cHRM", struct.pack(">8I", *(round(v * 100_000) for point in points for v in point)))


def iccp(profile: bytes) -> bytes:
    import zlib

    return p.chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))


def test_the_gamma_of_a_png_is_applied():
    assert np.abs(shown(png(SKIN, gama(1.0))) - made.srgb_encoded(np.array(SKIN) / 255)).max() <= 2
    grey = p.write(np.full((32, 32), 100, np.uint8), p.GREY, gama(1.0))
    assert np.abs(shown(grey) - made.srgb_encoded(np.array(100 / 255))).max() <= 2


def test_the_gamma_that_every_screen_has_changes_nothing():
    assert shown(png(SKIN, gama(0.45455), chrm(made.SRGB_XY))).tolist() == list(SKIN)


def test_the_primaries_of_a_png_are_applied():
    expected = made.meant((np.array(SKIN) / 255) ** 2.2, made.P3_XY)
    assert np.abs(shown(png(SKIN, chrm(made.P3_XY), gama(1 / 2.2))) - expected).max() <= 2


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param((gama(0.0),), id="no-gamma"),
        pytest.param((gama(20_000.0),), id="absurd-gamma"),
        pytest.param((chrm(((0.0, 0.0),) * 3),), id="no-primaries"),
        pytest.param((chrm(((0.3, 0.3),) * 3),), id="primaries-in-one-point"),
        pytest.param((gama(1.0), p.chunk(b"sRGB", b"\0")), id="srgb-says-so"),
        pytest.param((gama(1.0), iccp(made.SRGB)), id="profile-says-srgb"),
        pytest.param((p.chunk(b"cICP", b"\x01\x0d\0\1"), iccp(made.P3)), id="code-points-say-srgb"),
        pytest.param((p.chunk(b"cICP", b"\x02\x02\0\1"),), id="code-points-say-nothing"),
        pytest.param((p.chunk(b"cICP", b"\x63\x63\0\1"),), id="code-points-that-do-not-exist"),
    ],
)
def test_what_says_srgb_or_nothing_changes_nothing(chunks):
    assert shown(png(SKIN, *chunks)).tolist() == list(SKIN)


def test_the_code_points_of_a_png_decide():
    expected = made.meant(made.srgb_decoded(np.array(SKIN)), made.P3_XY)
    for chunks in ((), (iccp(made.SRGB),), (p.chunk(b"sRGB", b"\0"), gama(1.0))):
        data = png(SKIN, p.chunk(b"cICP", b"\x0c\x0d\0\1"), *chunks)
        assert np.abs(shown(data) - expected).max() <= 3


# ---- HDR


def pq_levels(candelas: float) -> int:
    """The 8-bit PQ signal of a light."""
    return int(np.abs(made.pq(np.arange(256) / 255) - candelas).argmin())


@pytest.mark.parametrize("how", ["code-points", "profile"])
@pytest.mark.parametrize("candelas", [5.0, 60.0, 203.0, 500.0, 1000.0])
def test_hdr_light_is_bent_to_what_a_screen_shows(candelas, how):
    level = pq_levels(candelas)
    linear = made.on_screen(made.pq(np.array([level / 255]))[0])
    mark = p.chunk(b"cICP", b"\x09\x10\0\1")
    if how == "profile":
        mark = iccp(made.rgb("", made.BT2020_XY, made.curve(made.pq(np.arange(4096) / 4095) / 10_000)))
    assert np.abs(shown(png((level,) * 3, mark)) - made.srgb_encoded(np.array(linear))).max() <= 4


def test_highlights_stay_apart_and_below_white():
    levels = [pq_levels(light) for light in (100, 203, 400, 900)]
    values = [shown(png((level,) * 3, p.chunk(b"cICP", b"\x09\x10\0\1")))[0] for level in levels]
    assert values == sorted(values) and len(set(values)) == 4 and values[-1] <= 255
    assert 175 < values[1] < 205 and values[-1] > 245


def test_the_brightest_of_hlg_is_white_and_a_white_sheet_is_light():
    assert shown(png((255,) * 3, p.chunk(b"cICP", b"\x09\x12\0\1")))[0] >= 254
    value = shown(png((191,) * 3, p.chunk(b"cICP", b"\x09\x12\0\1")))[0]  # 75%: BT.2408
    assert 175 <= value <= 205
    assert shown(png((96,) * 3, p.chunk(b"cICP", b"\x09\x12\0\1")))[0] < 110


def test_a_profile_with_an_hdr_curve_and_no_primaries_is_left_alone():
    table = made.profile(b"RGB ", {b"desc": made.described("HDR"), b"wtpt": made.xyz(made.D50)})
    assert shown(png(SKIN, iccp(table))).tolist() == list(SKIN)


def test_pillows_own_srgb_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert to_srgb(profile, "RGB") is None
    assert ImageCms.ImageCmsProfile(io.BytesIO(made.ADOBE_RGB)).profile.profile_description
