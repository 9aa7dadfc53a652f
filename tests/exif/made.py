"""Photographs made here, with the EXIF of a camera, and what must be read from them."""

import io
import struct

import piexif
from piexif import ExifIFD, ImageIFD
from PIL import Image

from bladescan.exif.tags import LIMITS, Exif, read_exif
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


def canon_note(metering, exposure, offset, *, order="<", length=None, footer=0):
    """A maker note of one entry, the settings right behind it; ``offset`` is where it says they are."""
    values = [0] * 30
    values[0] = 60 if length is None else length
    values[17], values[20] = metering, exposure
    entry = struct.pack(order + "HHLL", 1, 3, 30, offset) + bytes(4)
    note = struct.pack(order + "H", 1) + entry + struct.pack(order + "30H", *values)
    return note + (b"II*\0" + struct.pack("<L", footer) if footer else b"")
