"""Numbers as the standard has them: absurd ones are missing."""

import struct
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bladescan.exif.tags import LIMITS, exif_from_fields, read_exif
from tests.exif.made import shot

# -------------------------------------------------------------------------------------------------- numbers


@given(st.integers(1, 10**6), st.integers(1, 10**6))
@settings(max_examples=40)
def test_a_rational_is_its_quotient_or_missing_when_absurd(a, b):
    low, high = LIMITS["exposure_time"]
    expected = {"exposure_time": a / b} if low <= a / b <= high else {}
    assert shot(ExposureTime=(a, b)) == expected
    assert exif_from_fields({"ExposureTime": f"{a}/{b} sec"}).tags == expected
    assert exif_from_fields({"ExposureTime": Fraction(a, b)}).tags == expected


@pytest.mark.parametrize("value", [(1, 0), (0, 1), (0, 0), (2**32 - 1, 1), (1, 2**32 - 1)])
@pytest.mark.parametrize("name", ["FNumber", "ExposureTime", "FocalLength"])
def test_an_absurd_rational_is_missing(name, value):
    assert shot(**{name: value}) == {}


@pytest.mark.parametrize("value", [0, 65535])
def test_an_absurd_iso_is_missing(value):
    assert shot(ISOSpeedRatings=value) == {}


def test_a_saturated_iso_gives_way_to_the_long_tags():
    assert shot(ISOSpeedRatings=65535, RecommendedExposureIndex=102400) == {"iso_speed": 102400.0}
    assert shot(ISOSpeedRatings=0, StandardOutputSensitivity=800) == {"iso_speed": 800.0}
    assert shot(ISOSpeed=640) == {"iso_speed": 640.0}
    assert shot(ISOSpeedRatings=100, RecommendedExposureIndex=200) == {"iso_speed": 100.0}


def test_the_first_of_several_isos_counts():
    assert shot(ISOSpeedRatings=(200, 0)) == {"iso_speed": 200.0}


def test_an_iso_may_be_written_as_a_long():
    inner = struct.pack("<HHHLLL", 1, 0x8827, 4, 1, 80000, 0)
    raw = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHLLL", 0x8769, 4, 1, 26, 0) + inner
    assert read_exif(raw).tags == {"iso_speed": 80000.0}


def test_apex_stands_in_for_what_is_missing_or_absurd():
    assert shot(ApertureValue=(3, 1)) == {"aperture": 2.8}  # 2^(3/2), as engraved
    assert shot(ApertureValue=(7, 1)) == {"aperture": 11.0}
    assert shot(ShutterSpeedValue=(6, 1)) == {"exposure_time": 1 / 64}
    assert shot(ShutterSpeedValue=(-3, 1)) == {"exposure_time": 8.0}
    assert shot(FNumber=(0, 0), ApertureValue=(4, 1)) == {"aperture": 4.0}
    assert shot(ExposureTime=(0, 1), ShutterSpeedValue=(1, 1)) == {"exposure_time": 0.5}


def test_the_plain_tag_goes_before_apex():
    assert shot(FNumber=(28, 10), ApertureValue=(4, 1)) == {"aperture": 2.8}
    assert shot(ExposureTime=(1, 60), ShutterSpeedValue=(6, 1)) == {"exposure_time": 1 / 60}


@pytest.mark.parametrize("value", [(0, 1), (2**31 - 1, 1), (1, 0), (-(2**31), 1)])
def test_an_absurd_apex_value_is_missing(value):
    assert shot(ShutterSpeedValue=value) == {}
    assert exif_from_fields({"ApertureValue": value}).tags == {}
