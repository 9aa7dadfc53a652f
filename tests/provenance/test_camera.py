"""The nine tags are counted, contradictions are named, and nothing of it declares anything."""

from __future__ import annotations

import struct

import pytest
from PIL.TiffImagePlugin import IFDRational

from bladescan.provenance.reading import read_provenance
from tests.provenance.files import encoded, exif, jpeg, picture

FULL = {
    "Make": "NIKON CORPORATION",
    "ExposureTime": IFDRational(1, 200),
    "FNumber": IFDRational(28, 10),
    "ExposureProgram": 2,
    "ISO": 200,
    "MeteringMode": 5,
    "FocalLength": IFDRational(50, 1),
    "ExposureMode": 0,
    "WhiteBalance": 0,
    "MakerNote": b"Nikon\0\x02\x10\0\0",
}


def camera(**values):
    return read_provenance(jpeg(**values)).camera


def test_a_full_exif_is_rich_and_declares_nothing():
    found = read_provenance(jpeg(**FULL))
    assert (found.camera.n_tags, found.camera.word, found.camera.has_maker_note) == (9, "rich", True)
    assert (found.declared, found.evidence) == ("none", ())


def test_without_a_maker_note_it_is_sparse():
    found = camera(**{name: value for name, value in FULL.items() if name != "MakerNote"})
    assert (found.n_tags, found.word) == (9, "sparse")


def test_no_tag_is_none():
    assert camera(Software="x").word == "none"
    assert read_provenance(encoded("PNG")).camera.n_tags == 0


@pytest.mark.parametrize("name", [name for name in FULL if name != "MakerNote"])
def test_each_tag_counts_once(name):
    assert camera(**{name: FULL[name]}).n_tags == 1


@pytest.mark.parametrize(
    ("name", "value"), [("Make", "unknown"), ("ISO", 0), ("MeteringMode", 77), ("FNumber", IFDRational(0, 1))]
)
def test_what_makes_no_sense_does_not_count(name, value):
    assert camera(**{name: value}).n_tags == 0


def test_another_makers_note_is_a_contradiction():
    found = camera(**{**FULL, "Make": "Canon"})
    assert (found.word, found.contradictions) == (
        "inconsistent",
        ("the maker note is nikon's, the maker is not",),
    )


def test_an_exposure_of_no_scene_is_a_contradiction():
    found = camera(
        **{**FULL, "ExposureTime": IFDRational(1, 99_999), "FNumber": IFDRational(32, 1), "ISO": 50}
    )
    assert found.contradictions == ("exposure and ISO fit no scene",)


def with_thumbnail(size, shown):
    """Point the first directory at a second one, which holds the thumbnail."""
    block, thumbnail = exif(**FULL).tobytes()[6:], encoded("JPEG", picture(*size))
    order = "<" if block[:2] == b"II" else ">"
    (first,) = struct.unpack_from(order + "L", block, 4)
    following = first + 2 + 12 * struct.unpack_from(order + "H", block, first)[0]
    entries = struct.pack(order + "HHLL", 0x0201, 4, 1, len(block) + 30)
    entries += struct.pack(order + "HHLL", 0x0202, 4, 1, len(thumbnail))
    block = block[:following] + struct.pack(order + "L", len(block)) + block[following + 4 :]
    block += struct.pack(order + "H", 2) + entries + bytes(4) + thumbnail
    return encoded("JPEG", picture(*shown), exif=b"Exif\0\0" + block)


@pytest.mark.parametrize(
    ("thumbnail", "shown", "word"),
    [
        ((96, 64), (192, 128), "rich"),
        ((64, 96), (192, 128), "inconsistent"),
        ((96, 96), (192, 128), "inconsistent"),
        ((160, 120), (192, 128), "rich"),  # with bars
    ],
)
def test_the_thumbnail_has_the_pictures_shape(thumbnail, shown, word):
    found = read_provenance(with_thumbnail(thumbnail, shown)).camera
    assert found.word == word, found


def test_a_photograph_of_the_kind_that_cameras_make(data_dir):
    paths = sorted(data_dir.glob("photographs/scenes/*.jpg"))[:20]
    if not paths:
        pytest.skip("no photographs/scenes below BLADESCAN_DATA")
    for path in paths:
        found = read_provenance(path.read_bytes())
        assert found.declared in ("none", "captured") and found.camera.n_tags <= 9
