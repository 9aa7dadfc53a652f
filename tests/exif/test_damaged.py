"""No bytes raise, or give a value that no photograph has."""

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from piexif import ExifIFD, ImageIFD

from bladescan.exif import field_names, raw_fields
from bladescan.exif.tags import exif_from_fields, read_exif
from tests.exif.made import SHOT, block, canon_note, is_lawful

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
@settings(max_examples=300)
def test_no_field_raises_or_gives_an_unlawful_value(fields):
    assert is_lawful(exif_from_fields(fields))


# ---------------------------------------------------------------------------------------------- hostile bytes


@given(
    st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=4)), max_size=12),
    st.integers(0),
)
@settings(max_examples=600)
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
@settings(max_examples=200)
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
