"""The spellings of the tools that write EXIF as text."""

import pytest

from bladescan.exif.tags import exif_from_fields

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
