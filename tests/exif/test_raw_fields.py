"""Canon's maker note."""

import piexif
import pytest
from piexif import ExifIFD, ImageIFD

from bladescan.exif.tags import read_exif
from tests.exif.made import SHOT, canon_note


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
