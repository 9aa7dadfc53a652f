"""Camera raw is named, by its content, and its thumbnail is never shown. Plain TIFFs of cameras are read."""

from __future__ import annotations

import numpy as np
import pytest

from bladescan.base.records import Reason
from tests.images import tiff_files as t
from tests.images.pictures import LIMITS, first, reason_of, refusal_of

THUMBNAIL = np.full((24, 32, 3), (200, 120, 90), np.uint8)
SENSOR = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)


def make(name: str) -> t.Field:
    return t.Field(t.MAKE, t.ASCII, name.encode() + b"\0")


def number(tag: int, value: int, kind: int = t.LONG) -> t.Field:
    return t.Field(tag, kind, [value])


def preview(*more: t.Field) -> t.Directory:
    return t.page_of(THUMBNAIL, 2, more=[number(t.SUB_FILE, 1), *more])


def sensor(photometric: int = t.CFA, *more: t.Field) -> t.Directory:
    return t.page_of(SENSOR, photometric, more=[number(t.SUB_FILE, 0), *more])


def with_below(page: t.Directory, *below: t.Directory) -> t.Directory:
    return page._replace(below=below)


def on_tiff(maker: str, photometric: int = t.CFA, **options) -> bytes:
    """A thumbnail as the first page, the sensor's pixels in a directory below: as most cameras write it."""
    return t.write(with_below(preview(make(maker)), sensor(photometric)), **options)


RAW = {
    "nef": (on_tiff("NIKON CORPORATION"), "NEF"),
    "nef-big-endian": (
        t.write(
            with_below(
                t.page_of(THUMBNAIL, 2, order=">", more=[number(t.SUB_FILE, 1), make("NIKON")]),
                t.page_of(SENSOR, t.CFA, order=">"),
            ),
            order=">",
        ),
        "NEF",
    ),
    "nef-two-below": (
        t.write(with_below(preview(make("NIKON CORPORATION")), t.page_of(THUMBNAIL, 2), sensor())),
        "NEF",
    ),
    "arw": (on_tiff("SONY"), "ARW"),
    "srw": (on_tiff("SAMSUNG"), "SRW"),
    "3fr": (on_tiff("Hasselblad"), "3FR"),
    "erf": (on_tiff("SEIKO EPSON CORP."), "ERF"),
    "dcr": (on_tiff("EASTMAN KODAK COMPANY"), "DCR"),
    "mef": (on_tiff("Mamiya-OP Co.,Ltd."), "MEF"),
    "linear-raw": (on_tiff("Somebody", t.LINEAR_RAW), "made by a camera"),
    "pef-sensor-as-first-page": (t.write(sensor(t.CFA, make("PENTAX Corporation"))), "PEF"),
    "sensor-as-second-page": (t.write(preview(make("RICOH")), sensor()), "PEF"),
    "dng": (
        t.write(with_below(preview(make("Apple"), t.Field(t.DNG_VERSION, t.BYTE, [1, 6, 0, 0])), sensor())),
        "DNG",
    ),
    "dng-with-linear-rgb-alone": (
        t.picture(THUMBNAIL, 2, more=[t.Field(t.DNG_VERSION, t.BYTE, [1, 4, 0, 0])]),
        "DNG",
    ),
    "dng-big-tiff": (
        t.write(
            with_below(preview(t.Field(t.DNG_VERSION, t.BYTE, [1, 7, 1, 0])), sensor()),
            big=True,
        ),
        "DNG",
    ),
    "cr2": (t.write(t.page_of(THUMBNAIL, 2, more=[make("Canon")]), head=b"CR\2\0" + bytes(4)), "CR2"),
    "iiq": (t.write(t.page_of(THUMBNAIL, 2, more=[make("Phase One")]), head=b"IIIIwaR\0"), "IIQ"),
    "mos": (t.picture(THUMBNAIL, 2, more=[make("Leaf"), t.Field(34310, t.UNDEFINED, b"PKTS" * 4)]), "MOS"),
    "cfa-pattern-without-interpretation": (
        t.picture(SENSOR, 1, more=[t.Field(33422, t.BYTE, [0, 1, 1, 2])]),
        "made by a camera",
    ),
    "orf": (b"IIRO\x08\0\0\0" + bytes(300), "ORF"),
    "orf-old": (b"MMOR\0\0\0\x08" + bytes(300), "ORF"),
    "orf-second": (b"IIRS\x08\0\0\0" + bytes(300), "ORF"),
    "rw2": (b"IIU\0\x08\0\0\0" + bytes(300), "RW2"),
    "raf": (b"FUJIFILMCCD-RAW 0201" + bytes(300), "RAF"),
    "x3f": (b"FOVb\0\0\2\0" + bytes(300), "X3F"),
    "crw": (b"II\x1a\0\0\0HEAPCCDR" + bytes(300), "CRW"),
    "mrw": (b"\0MRM\0\0\1\0" + bytes(300), "MRW"),
    "cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(300), "CR3"),
}


@pytest.mark.parametrize("name", RAW)
def test_camera_raw_is_never_its_thumbnail(name):
    data, kind = RAW[name]
    reason, detail = refusal_of(data)
    assert reason is Reason.FORMAT_NOT_ALLOWED
    assert detail.startswith(f"camera raw ({kind}) is not opened")


PLAIN = {
    "of-a-camera": t.picture(THUMBNAIL, 2, more=[make("NIKON CORPORATION")]),
    "of-a-camera-with-a-smaller-picture-below": t.write(
        with_below(t.page_of(THUMBNAIL, 2, more=[make("Hasselblad")]), preview())
    ),
    "that-calls-its-only-picture-reduced": t.picture(
        THUMBNAIL, 2, more=[number(t.SUB_FILE, 1), make("SONY")]
    ),
    "with-a-smaller-second-page": t.write(
        t.page_of(THUMBNAIL, 2), t.page_of(THUMBNAIL[:16, :16], 2, more=[number(t.SUB_FILE, 1)])
    ),
    "big-tiff": t.write(t.page_of(THUMBNAIL, 2, more=[make("Canon")]), big=True),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_tiff_is_read(name):
    np.testing.assert_array_equal(first(PLAIN[name]), THUMBNAIL)


def test_a_preview_of_a_picture_that_is_out_of_reach_is_not_shown():
    below = t.page_of(np.zeros((200, 300, 3), np.uint8), 2)
    for data in (t.write(with_below(preview(make("SONY")), below)), broken_pointer()):
        reason, detail = refusal_of(data)
        assert reason is Reason.FORMAT_NOT_ALLOWED and "preview" in detail


def broken_pointer() -> bytes:
    """As the first cameras of Sony wrote it: what the field points to is pixels, not a directory."""
    return t.write(preview(make("SONY"), t.Field(t.SUB_IFDS, t.LONG, [8])), head=bytes(64))


def test_directories_in_a_circle_end():
    data = bytearray(t.write(with_below(preview(make("SONY")), sensor(1))))
    at = data.index(t.SUB_IFDS.to_bytes(2, "little") + b"\x04\0\1\0\0\0")
    data[at + 8 : at + 12] = data[4:8]
    assert reason_of(bytes(data)) is Reason.FORMAT_NOT_ALLOWED


def test_a_camera_raw_is_refused_even_when_all_formats_are_asked_for():
    from bladescan.images.formats import IMAGE_FORMATS
    from bladescan.images.limits import Limits

    assert reason_of(RAW["nef"][0], Limits(formats=frozenset(IMAGE_FORMATS))) is Reason.FORMAT_NOT_ALLOWED
    assert LIMITS.formats
