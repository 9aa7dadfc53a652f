import io
import pickle
import shutil
import struct
import tracemalloc
import zlib
from fractions import Fraction
from pathlib import Path

import piexif
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from piexif import ExifIFD, ImageIFD
from PIL import Image, PngImagePlugin, features

from benchmarks.quality import exif_agreement
from bladescan.exif import classes, field_names, raw_fields
from bladescan.exif.tags import EXIF_TASKS, LIMITS, Exif, exif_from_fields, read_exif
from bladescan.tasks.pretext_tasks import TASKS, TaskKind

NIKON = {ImageIFD.Make: b"NIKON CORPORATION", ImageIFD.Model: b"NIKON D70", ImageIFD.Software: b"Ver.1.0 "}
SHOT = {
    ExifIFD.ISOSpeedRatings: 400,
    ExifIFD.FNumber: (28, 10),
    ExifIFD.ExposureTime: (10, 600),
    ExifIFD.FocalLength: (500, 10),
    ExifIFD.MeteringMode: 5,
    ExifIFD.ExposureMode: 0,
    ExifIFD.WhiteBalance: 1,
    ExifIFD.ExposureProgram: 3,
}
EXPECTED = {
    "iso_speed": 400.0,
    "aperture": 2.8,
    "exposure_time": 1 / 60,
    "focal_length": 50.0,
    "make": "Nikon",
    "metering_mode": "multi-segment",
    "exposure_mode": "auto",
    "white_balance_mode": "manual",
    "exposure_program": "aperture priority",
}


def block(shot=None, camera=None):
    return piexif.dump({"0th": NIKON if camera is None else camera, "Exif": SHOT if shot is None else shot})


def picture(kind="JPEG", **options):
    out = io.BytesIO()
    Image.new("RGB", (16, 16), (90, 120, 150)).save(out, kind, **options)
    return out.getvalue()


def jpeg(shot=None, camera=None):
    return picture(exif=block(shot, camera))


def shot(**tags):
    return read_exif(jpeg({getattr(ExifIFD, name): value for name, value in tags.items()}, {})).tags


def is_lawful(found):
    assert isinstance(found, Exif)
    for name, value in found.tags.items():
        if TASKS[name].kind is TaskKind.ORDINAL:
            low, high = LIMITS[name]
            assert type(value) is float and low <= value <= high
        else:
            assert value in TASKS[name].classes
    return True


# ---------------------------------------------------------------------------------------------- whole files


def test_there_are_nine_tasks_in_the_order_of_the_table():
    assert EXIF_TASKS == tuple(TASKS)[2:] and len(EXIF_TASKS) == 9


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


# -------------------------------------------------------------------------------------------------- numbers


@given(st.integers(1, 10**6), st.integers(1, 10**6))
@settings(max_examples=40, deadline=None)
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


# -------------------------------------------------------------------------------------------------- classes


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (b"NIKON CORPORATION", "Nikon"),
        (b"NIKON", "Nikon"),
        (b"Apple", "Apple"),
        (b"FUJIFILM", "FUJIFILM"),
        (b"FUJI PHOTO FILM CO., LTD.", "FUJIFILM"),
        (b"Canon\0\0\0\0", "Canon"),
        (b"samsung", "Samsung"),
        (b"SAMSUNG TECHWIN CO., LTD.", "Samsung"),
        (b"SONY      ", "Sony"),
        (b"Sony Ericsson", "others"),
        (b"Panasonic", "Panasonic"),
        (b"LEICA CAMERA AG", "others"),
        (b"Leica / Panasonic", "others"),
        (b"OLYMPUS IMAGING CORP.", "others"),
        (b"KONICA MINOLTA", "others"),
        (b"Nokia", "Nokia"),
        (b"HMD Global", "Nokia"),
        (b"PENTAX Corporation", "Pentax"),
        (b"Asahi Optical Co.,Ltd", "Pentax"),
        (b"RICOH IMAGING / PENTAX", "Pentax"),
        (b"RICOH IMAGING COMPANY, LTD.", "others"),
        (b"Canonical", "others"),
        (b"MAKER NAME", None),
        (b"   ", None),
        (b"\xff\xff\xff", None),
    ],
)
def test_a_maker_is_known_by_its_name_however_written(written, name):
    assert read_exif(block({}, {ImageIFD.Make: written})).tags.get("make") == name


def test_a_pentax_by_ricoh_is_known_by_its_model():
    camera = {ImageIFD.Make: b"RICOH IMAGING COMPANY, LTD.", ImageIFD.Model: b"PENTAX K-3"}
    assert read_exif(block({}, camera)).tags == {"make": "Pentax"}


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("NIKON CORPORATION", "NIKON D70", "nikon d70"),
        ("NIKON", "D70", "nikon d70"),
        ("Canon", "Canon EOS 5D Mark II ", "canon eos 5d mark ii"),
        ("SONY", "DSC-W1", "sony dsc-w1"),
        ("HMD Global", "Nokia 7 plus", "nokia 7 plus"),
        ("RICOH IMAGING COMPANY, LTD.", "PENTAX K-3", "pentax k-3"),
        ("OLYMPUS OPTICAL CO.,LTD", "C2020Z", "olympus c2020z"),
        ("", "X100", "x100"),
        ("MAKER NAME", "MODEL NAME", ""),
        ("", "", ""),
    ],
)
def test_a_camera_is_one_name_however_its_maker_is_written(make, model, camera):
    assert exif_from_fields({"Make": make, "Model": model}).camera == camera


@pytest.mark.parametrize(
    ("tag", "task", "codes"),
    [
        ("MeteringMode", "metering_mode", classes.METERING),
        ("ExposureMode", "exposure_mode", classes.EXPOSURE),
        ("WhiteBalance", "white_balance_mode", classes.WHITE_BALANCE),
        ("ExposureProgram", "exposure_program", classes.PROGRAM),
    ],
)
def test_a_code_is_a_class_of_its_task_or_missing(tag, task, codes):
    for code in (*range(12), 255, 65535):
        found = shot(**{tag: code})
        assert found == ({task: codes[code]} if code in codes else {})
        assert is_lawful(Exif(found, "", ""))
    for code in codes:
        assert exif_from_fields({tag: str(code)}).tags == {task: codes[code]}


def test_the_standards_codes_mean_what_it_says():
    assert shot(MeteringMode=5)["metering_mode"] == "multi-segment"
    assert shot(MeteringMode=3)["metering_mode"] == "spot"
    assert shot(MeteringMode=255)["metering_mode"] == "others"
    assert shot(ExposureMode=2)["exposure_mode"] == "auto-bracketing"
    assert shot(WhiteBalance=0)["white_balance_mode"] == "auto"
    assert shot(ExposureProgram=2)["exposure_program"] == "normal program"
    assert shot(ExposureProgram=8)["exposure_program"] == "landscape mode"


# ------------------------------------------------------------------------------------------ Canon's own words


def canon_note(metering, exposure, offset, *, order="<", length=None, footer=0):
    """A maker note of one entry, the settings right behind it; ``offset`` is where it says they are."""
    values = [0] * 30
    values[0] = 60 if length is None else length
    values[17], values[20] = metering, exposure
    entry = struct.pack(order + "HHLL", 1, 3, 30, offset) + bytes(4)
    note = struct.pack(order + "H", 1) + entry + struct.pack(order + "30H", *values)
    return note + (b"II*\0" + struct.pack("<L", footer) if footer else b"")


def canon(note_at, shot=SHOT, make=b"Canon"):
    """EXIF of a Canon whose maker note is what ``note_at`` makes for the position it gets."""
    camera = {ImageIFD.Make: make}
    mark = piexif.dump({"0th": camera, "Exif": {**shot, ExifIFD.MakerNote: note_at(0)}})
    at = mark.index(note_at(0)) - 6
    return read_exif(piexif.dump({"0th": camera, "Exif": {**shot, ExifIFD.MakerNote: note_at(at)}})).tags


@pytest.mark.parametrize("order", ["<", ">"])
def test_canons_maker_note_names_evaluative_metering_and_the_exposure_mode(order):
    found = canon(lambda at: canon_note(3, 3, at + 18, order=order))
    assert (found["metering_mode"], found["exposure_mode"]) == ("evaluative", "aperture-priority")
    found = canon(lambda at: canon_note(1, 0, at + 18, order=order))
    assert (found["metering_mode"], found["exposure_mode"]) == ("spot", "easy-shooting")


def test_a_note_that_an_editor_moved_is_read_by_where_it_once_stood():
    found = canon(lambda at: canon_note(3, 2, 5000 + 18, footer=5000))
    assert (found["metering_mode"], found["exposure_mode"]) == ("evaluative", "shutter-priority")


@pytest.mark.parametrize(
    "note_at",
    [
        lambda at: canon_note(3, 3, at + 18, length=58),
        lambda at: canon_note(3, 3, at + 1000),
        lambda at: canon_note(3, 3, at + 18)[:40],
        lambda at: b"\xff" * 64,
    ],
)
def test_a_note_that_is_not_proved_right_leaves_the_standard_tags(note_at):
    found = canon(note_at)
    assert (found["metering_mode"], found["exposure_mode"]) == ("multi-segment", "auto")


def test_codes_without_a_class_leave_the_standard_tags():
    found = canon(lambda at: canon_note(0, 6, at + 18))
    assert (found["metering_mode"], found["exposure_mode"]) == ("multi-segment", "auto")


def test_another_makers_note_is_not_read_as_canons():
    found = canon(lambda at: canon_note(3, 3, at + 18), make=b"NIKON")
    assert (found["metering_mode"], found["exposure_mode"]) == ("multi-segment", "auto")


def test_bracketing_is_the_standards_to_say():
    bracketed = {**SHOT, ExifIFD.ExposureMode: 2}
    assert canon(lambda at: canon_note(3, 1, at + 18), bracketed)["exposure_mode"] == "auto-bracketing"


# -------------------------------------------------------------------------------------------- fields of dumps


@pytest.mark.parametrize(
    ("fields", "task", "expected"),
    [
        ({"ExposureTime": "1/60 sec"}, "exposure_time", 1 / 60),
        ({"ExposureTime": "1/60"}, "exposure_time", 1 / 60),
        ({"ExposureTime": "0.017"}, "exposure_time", 0.017),
        ({"ExposureTime": "0,5 s"}, "exposure_time", 0.5),
        ({"ExposureTime": "2 seconds"}, "exposure_time", 2.0),
        ({"ExposureTime": 1.25e-05}, "exposure_time", 1.25e-05),
        ({"Exposure": "0.001 sec (1/800)"}, "exposure_time", 1 / 800),
        ({"ShutterSpeedValue": "1/64"}, "exposure_time", 1 / 64),
        ({"ShutterSpeedValue": "6.00 EV (1/64 sec.)"}, "exposure_time", 1 / 64),
        ({"Shutter Speed": "1/125"}, "exposure_time", 1 / 125),
        ({"EXIF ExposureTime": "1/60"}, "exposure_time", 1 / 60),
        ({"Exif.Photo.ExposureTime": "10/600 s"}, "exposure_time", 1 / 60),
        ({"ExposureTime": "-1/60"}, "exposure_time", None),
        ({"ExposureTime": "1/0"}, "exposure_time", None),
        ({"ExposureTime": "undef"}, "exposure_time", None),
        ({"ExposureTime": "inf"}, "exposure_time", None),
        ({"FNumber": "f/2.8"}, "aperture", 2.8),
        ({"FNumber": "F2.8"}, "aperture", 2.8),
        ({"FNumber": "2,8"}, "aperture", 2.8),
        ({"F Number": "2.8"}, "aperture", 2.8),
        ({"Aperture": "\u0192/2.8"}, "aperture", 2.8),
        ({"ApertureValue": "2.8"}, "aperture", 2.8),
        ({"ApertureValue": 2.8}, "aperture", 2.8),
        ({"ApertureValue": "3/1"}, "aperture", 2.8),
        ({"ApertureValue": (3, 1)}, "aperture", 2.8),
        ({"ApertureValue": "3.00 EV (f/2.8)"}, "aperture", 2.8),
        ({"FNumber": [28, 10]}, "aperture", 2.8),
        ({"FNumber": float("nan")}, "aperture", None),
        ({"ISO": "400"}, "iso_speed", 400.0),
        ({"ISO": 400}, "iso_speed", 400.0),
        ({"ISO Speed": "ISO 400"}, "iso_speed", 400.0),
        ({"ISO": "1,600"}, "iso_speed", 1600.0),
        ({"ISO": "200, 0"}, "iso_speed", 200.0),
        ({"PhotographicSensitivity": (100,)}, "iso_speed", 100.0),
        ({"ISOSpeedRatings": "65535", "RecommendedExposureIndex": "102400"}, "iso_speed", 102400.0),
        ({"ISO": "Auto"}, "iso_speed", None),
        ({"FocalLength": "50.0 mm"}, "focal_length", 50.0),
        ({"FocalLength": "50mm"}, "focal_length", 50.0),
        ({"Focal Length": "4.2 mm (35 mm equivalent: 26.0 mm)"}, "focal_length", 4.2),
        ({"FocalLength": "28-70 mm"}, "focal_length", None),
        ({"FocalLength": "0.0 mm"}, "focal_length", None),
        ({"FocalLengthIn35mmFormat": "75 mm"}, "focal_length", None),
        ({"MeteringMode": "Center-weighted average"}, "metering_mode", "centre-weighted"),
        ({"MeteringMode": "Center weighted average"}, "metering_mode", "centre-weighted"),
        ({"MeteringMode": "Multi-segment"}, "metering_mode", "multi-segment"),
        ({"MeteringMode": "Pattern"}, "metering_mode", "multi-segment"),
        ({"MeteringMode": "Multi-spot"}, "metering_mode", "multi-spot"),
        ({"MeteringMode": "Evaluative"}, "metering_mode", "evaluative"),
        ({"MeteringMode": "Other"}, "metering_mode", "others"),
        ({"MeteringMode": "Unknown"}, "metering_mode", None),
        ({"MeteringMode": 3}, "metering_mode", "spot"),
        ({"Canon:MeteringMode": 3, "EXIF:MeteringMode": 5}, "metering_mode", "evaluative"),
        ({"MakerNotes:MeteringMode": "Evaluative"}, "metering_mode", "evaluative"),
        ({"MakerNotes:MeteringMode": 3, "EXIF:MeteringMode": 5}, "metering_mode", "multi-segment"),
        ({"IFD1:MeteringMode": 3}, "metering_mode", None),
        ({"ExposureMode": "Auto"}, "exposure_mode", "auto"),
        ({"ExposureMode": "Auto exposure"}, "exposure_mode", "auto"),
        ({"ExposureMode": "Auto bracket"}, "exposure_mode", "auto-bracketing"),
        ({"ExposureMode": "Manual"}, "exposure_mode", "manual"),
        ({"CanonExposureMode": "Easy", "ExposureMode": "Auto"}, "exposure_mode", "easy-shooting"),
        ({"ExposureMode": "Program AE"}, "exposure_mode", "program"),
        ({"ExposureMode": "Aperture-priority AE"}, "exposure_mode", "aperture-priority"),
        ({"ExposureMode": "Shutter speed priority AE"}, "exposure_mode", "shutter-priority"),
        ({"MakerNotes:CanonExposureMode": 1}, "exposure_mode", "program"),
        ({"WhiteBalance": "Auto"}, "white_balance_mode", "auto"),
        ({"WhiteBalance": "Manual white balance"}, "white_balance_mode", "manual"),
        ({"WhiteBalance": "Daylight"}, "white_balance_mode", "manual"),
        ({"WhiteBalance": "Unknown (2)"}, "white_balance_mode", None),
        ({"ExposureProgram": "Program AE"}, "exposure_program", "normal program"),
        ({"ExposureProgram": "Normal program"}, "exposure_program", "normal program"),
        ({"ExposureProgram": "Manual"}, "exposure_program", "manual control"),
        ({"ExposureProgram": "Aperture-priority AE"}, "exposure_program", "aperture priority"),
        ({"ExposureProgram": "Shutter speed priority AE"}, "exposure_program", "shutter priority"),
        ({"ExposureProgram": "Portrait"}, "exposure_program", "portrait mode"),
        ({"ExposureProgram": "Landscape mode"}, "exposure_program", "landscape mode"),
        ({"ExposureProgram": "Creative (Slow speed)"}, "exposure_program", None),
        ({"ExposureProgram": "Not Defined"}, "exposure_program", None),
    ],
)
def test_a_field_is_read_in_the_spelling_of_its_tool(fields, task, expected):
    found = exif_from_fields(fields).tags
    assert found == ({} if expected is None else {task: expected})


def test_a_short_exposure_ranks_below_a_long_one_in_every_spelling():
    times = ["1/4000", "1/800 sec", "0.002 sec (1/500)", "1/60", "0.5 s", "1", "30"]
    values = [exif_from_fields({"ExposureTime": time}).tags["exposure_time"] for time in times]
    assert values == sorted(values) and len(set(values)) == len(values)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=4,
)
NAMES = st.sampled_from(
    [
        *raw_fields.FIELDS.values(),
        *field_names.ALIASES,
        "ApertureValue",
        "Canon:MeteringMode",
        "EXIF:",
        ":.",
        "",
    ]
)


@given(st.dictionaries(NAMES, ANY, max_size=6))
@settings(max_examples=300, deadline=None)
def test_no_field_raises_or_gives_an_unlawful_value(fields):
    assert is_lawful(exif_from_fields(fields))


# ---------------------------------------------------------------------------------------------- hostile bytes


@given(
    st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=4)), max_size=12),
    st.integers(0),
)
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_exif_never_raises_or_gives_an_unlawful_value(changes, cut):
    raw = bytearray(MUTATED)
    for at, patch in changes:
        raw[at % len(raw) : at % len(raw) + len(patch)] = patch
    assert is_lawful(read_exif(bytes(raw)))
    assert is_lawful(read_exif(bytes(raw[: cut % len(raw)])))


MUTATED = block({**SHOT, ExifIFD.MakerNote: canon_note(3, 3, 300)}, {ImageIFD.Make: b"Canon"})


@given(
    st.sampled_from([b"\xff\xd8\xff\xe1", b"II*\0", b"MM\0*", b"Exif\0\0", b"\x89PNG\r\n\x1a\n", b"RIFF"]),
    st.binary(),
)
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_something_lawful(start, rest):
    assert is_lawful(read_exif(start + rest))


def test_directories_of_absurd_counts_cost_no_memory():
    entries = b"".join(
        struct.pack("<HHLL", tag, kind, 0xFFFFFFF0, 8) for tag in raw_fields.FIELDS for kind in range(14)
    )
    loop = struct.pack("<HHLL", 0x8769, 4, 1, 8)
    raw = b"II*\0\x08\0\0\0" + struct.pack("<H", 14 * len(raw_fields.FIELDS) + 1) + entries + loop
    read_exif(raw)
    tracemalloc.start()
    try:
        assert read_exif(raw).tags == {}
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.integration
def test_broken_files_from_test_suites_give_something_lawful(data_dir):
    files = sorted(path for path in (data_dir / "hostile").rglob("*") if path.is_file())
    with_tags = [path for path in files if is_lawful(found := read_exif(path.read_bytes())) and found.tags]
    assert len(files) > 1000 and len(with_tags) > 30


# -------------------------------------------------------------------------------------- an independent reader


def agreement():
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
    return exif_agreement.compare


@pytest.mark.integration
def test_exiftool_reads_the_same_in_photographs(data_dir):
    compare = agreement()
    paths = sorted((data_dir / "photographs").rglob("*.jpg"))[::8]
    assert len(paths) >= 40
    for tag, tally in compare(paths).items():
        assert len(tally.agree) >= 30, tag
        assert (tally.disagree, tally.only_ours, tally.only_exiftool) == ([], [], [])


def test_exiftool_reads_the_same_in_what_is_made_here(tmp_path):
    compare = agreement()
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "b.png").write_bytes(picture("PNG", exif=block()))
    (tmp_path / "c.webp").write_bytes(picture("WEBP", exif=block()))
    for tally in compare(sorted(tmp_path.iterdir())).values():
        assert [Path(path).name for path in sorted(tally.agree)] == ["a.jpg", "b.png", "c.webp"]
