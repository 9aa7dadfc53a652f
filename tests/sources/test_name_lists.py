"""Lists as Windows writes them: byte order marks, UTF-16."""

from __future__ import annotations

import codecs
import io
import os
import random

import pytest
from PIL import Image

from bladescan.base.errors import UsageError
from bladescan.sources.name_lists import read_names

NAMES = ["a.jpg", "ü/ß é.png", "写真.jpg", "😀.webp"]
MARKED = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


def read(data: bytes, null_separated: bool = False) -> list[bytes]:
    return list(read_names(io.BytesIO(data), null_separated))


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("encoding", MARKED)
def test_a_list_with_a_mark_is_read_in_its_encoding(encoding, end):
    data = MARKED[encoding] + end.join([*NAMES, ""]).encode(encoding)
    assert read(data) == [name.encode() for name in NAMES]


@pytest.mark.parametrize("encoding", MARKED)
def test_a_list_with_a_mark_reads_the_same_however_it_is_cut_into_blocks(encoding):
    data = MARKED[encoding] + "\n".join(NAMES).encode(encoding)
    rng = random.Random(encoding)

    class Dribble(io.RawIOBase):
        at = 0

        def read(self, n=-1):
            start, self.at = self.at, self.at + rng.randint(1, 3)
            return data[start : self.at]

    for _ in range(20):
        assert list(read_names(Dribble(), False)) == [name.encode() for name in NAMES]


@pytest.mark.parametrize("mark", MARKED.values(), ids=list(MARKED))
def test_a_mark_and_nothing_else_is_an_empty_list(mark):
    assert read(mark) == ([] if mark == codecs.BOM_UTF8 else read(mark))
    assert b"a" not in b"".join(read(mark))


def test_names_that_begin_with_the_bytes_of_a_mark_stay_what_they_are():
    for data in (b"\xff\xfe.jpg\nb.jpg\n", b"\xfe\xff\n", b"\xff\xfe"):
        assert read(data) == [line for line in data.split(b"\n") if line]


def test_a_mark_in_the_middle_or_before_nulls_belongs_to_a_name():
    assert read(b"a\n" + codecs.BOM_UTF8 + b"b\n") == [b"a", codecs.BOM_UTF8 + b"b"]
    assert read(codecs.BOM_UTF8 + b"a\0b\0", null_separated=True) == [codecs.BOM_UTF8 + b"a", b"b"]


def test_a_list_that_its_mark_lies_about_is_refused():
    with pytest.raises(UsageError, match="its mark says utf-16-le, and it is not"):
        read(codecs.BOM_UTF16_LE + "a\n".encode("utf-16-le") + b"\x00\xd8\x00\xd8")
    with pytest.raises(UsageError, match="its mark says utf-32-le"):
        read(codecs.BOM_UTF32_LE + b"\xff\xff\xff\xff")


def test_the_first_names_of_a_marked_list_are_usable_before_it_ends():
    reader, writer = os.pipe()
    with open(reader, "rb") as stream, open(writer, "wb", buffering=0) as out:
        names = read_names(stream, False)
        out.write(codecs.BOM_UTF16_LE + "first\nsec".encode("utf-16-le"))
        assert next(names) == b"first"
        out.write("ond\n".encode("utf-16-le"))
        assert next(names) == b"second"


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"])
def test_a_picture_is_no_list(name):
    file = io.BytesIO()
    Image.new("RGB", (40, 40)).save(file, name)
    with pytest.raises(UsageError, match=rf"a picture \({name}\), not a list of names"):
        list(read_names(io.BytesIO(file.getvalue()), null_separated=False))
    with pytest.raises(UsageError, match=rf"a picture \({name}\), not a list of names"):
        list(read_names(io.BytesIO(file.getvalue()), None))


def test_names_may_begin_as_a_picture_does():
    names = [b"BMW.jpg", b"GIF89a notes.png", b"\xff\xd8\xff.jpg"]
    assert list(read_names(io.BytesIO(b"\n".join(names)), null_separated=False)) == names
    assert list(read_names(io.BytesIO(b"\0".join(names)), null_separated=True)) == names


@pytest.mark.parametrize("encoding", [None, *MARKED])
@pytest.mark.parametrize("end", ["\n", "\0"], ids=["lines", "nul"])
def test_a_list_says_itself_what_ends_its_names(encoding, end):
    if encoding and end == "\0":
        pytest.skip("a list with a mark is text")
    data = MARKED.get(encoding, b"") + end.join(NAMES).encode(encoding or "utf-8")
    assert list(read_names(io.BytesIO(data), None)) == [name.encode() for name in NAMES]


def test_a_list_ended_by_nul_keeps_what_a_list_of_lines_cannot_hold():
    names = [b"/a\nb.jpg", b"/carriage\r", b"/\xff\xfe"]
    assert list(read_names(io.BytesIO(b"".join(name + b"\0" for name in names)), None)) == names
    assert list(read_names(io.BytesIO(b""), None)) == []
