"""Lists of names, in a file or on standard input. What the names mean is not looked at."""

from __future__ import annotations

import codecs
import select
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO

from bladescan.base.errors import UsageError
from bladescan.images.formats import format_of
from bladescan.sources.problems import message_of

LONGEST_NAME = 1 << 20
"""Bytes without a separator after which a file is no list of names."""
_READ_SIZE = 1 << 16
_MARKS = (
    (codecs.BOM_UTF8, ""),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks, and what follows them; the longer of two that begin alike first."""


def open_list(path: str) -> BinaryIO:
    """Open a file of names.

    Raises:
        UsageError: it cannot be opened.
    """
    try:
        return open(path, "rb", buffering=0)
    except (OSError, ValueError) as exc:
        raise UsageError(f"list of names {path}: {message_of(exc)}") from exc


def read_names(stream: BinaryIO, null_separated: bool | None) -> Iterator[bytes]:
    """Yield the names of a list, each as soon as it arrives. Blank lines are skipped.

    A carriage return before a line end belongs to the line end; a name that ends with one, or contains a
    line end, needs ``null_separated``. A byte order mark says how the list is written (UTF-8, UTF-16 or
    UTF-32, as Windows writes it) and is no part of a name; with ``null_separated`` there is none.

    Where ``null_separated`` is None the list says it itself: no name holds a NUL, so a list with one is
    separated by them, unless it begins with a byte order mark.

    Raises:
        UsageError: the list cannot be read, or is something else: a picture, or no separator in
            `LONGEST_NAME` bytes.
    """
    blocks = _blocks(stream)
    if null_separated is None:
        blocks = _no_picture(blocks)
        first = next(blocks, b"")
        null_separated, blocks = b"\0" in first and not _is_marked(first), chain([first], blocks)
    separator, rest = (b"\0" if null_separated else b"\n"), b""
    for block in blocks if null_separated else _as_utf8(_no_picture(blocks)):
        *names, rest = (rest + block).split(separator)
        if len(rest) > LONGEST_NAME:
            raise UsageError(f"not a list of names: {LONGEST_NAME} bytes without {separator!r}")
        yield from _without_blanks(names, null_separated)
    yield from _without_blanks([rest], null_separated)


def _no_picture(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass blocks on, unless they begin as the bytes of a picture do: with its mark, and a zero."""
    head = next(blocks, b"")
    kind = format_of(head) if b"\0" in head else None
    if kind is not None:
        raise UsageError(f"a picture ({kind}), not a list of names: save it, and give the name of its file")
    yield from chain([head], blocks)


def _as_utf8(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Write blocks in UTF-8 if a byte order mark says that they are in another encoding; leave others be."""
    head = b""
    for block in blocks:
        head += block
        if not _may_be_marked(head):
            break
    mark, encoding = next(((m, e) for m, e in _MARKS if head.startswith(m)), (b"", ""))
    if (
        encoding and b"\0" not in head
    ):  # names of bytes that begin as a mark does: text of two bytes has zeros
        mark, encoding = b"", ""
    decoder = codecs.getincrementaldecoder(encoding)() if encoding else None
    for block in chain([head[len(mark) :]], blocks, [b""] if decoder else []):
        try:
            yield decoder.decode(block, final=not block).encode() if decoder else block
        except UnicodeError as exc:
            raise UsageError(f"not a list of names: its mark says {encoding}, and it is not") from exc


def _is_marked(head: bytes) -> bool:
    return any(head.startswith(mark) for mark, _ in _MARKS)


def _may_be_marked(head: bytes) -> bool:
    """Tell whether more bytes are needed to see if a list begins with a mark: a first line and a byte."""
    if any(mark.startswith(head) for mark, _ in _MARKS):
        return True
    return head[:2] in (b"\xff\xfe", b"\xfe\xff") and b"\0" not in head and b"\n" not in head[:-1]


def _without_blanks(names: Iterable[bytes], null_separated: bool) -> Iterator[bytes]:
    if not null_separated:
        names = (name.removesuffix(b"\r") for name in names)
    return (name for name in names if name)


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    # read1, where there is one: read(n) of a buffered pipe would wait until n bytes have come.
    read = getattr(stream, "read1", stream.read)
    while True:
        try:
            block = read(_READ_SIZE)
        except OSError as exc:
            raise UsageError(f"list of names: {message_of(exc)}") from exc
        if block is None:  # a non-blocking stream with nothing yet, which is not its end
            select.select([stream], [], [])
        elif block:
            yield block
        else:
            return
