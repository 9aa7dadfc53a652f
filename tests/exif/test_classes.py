"""Makers and codes are classes of their tasks, or missing."""

import pytest
from piexif import ImageIFD

from bladescan.exif import classes
from bladescan.exif.tags import Exif, exif_from_fields, read_exif
from tests.exif.made import block, is_lawful, shot

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
