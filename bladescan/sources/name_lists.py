"""Lists of names, in a file or on standard input. What the names mean is not looked at."""

from __future__ import annotations

import select
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from bladescan.base.errors import UsageError
from bladescan.sources.problems import message_of

LONGEST_NAME = 1 << 20
"""Bytes without a separator after which a file is no list of names."""
_READ_SIZE = 1 << 16


def open_list(path: str) -> BinaryIO:
    """Open a file of names.

    Raises:
        UsageError: it cannot be opened.
    """
    try:
        return open(path, "rb", buffering=0)
    except (OSError, ValueError) as exc:
        raise UsageError(f"list of names {path}: {message_of(exc)}") from exc


def read_names(stream: BinaryIO, null_separated: bool) -> Iterator[bytes]:
    """Yield the names of a list, each as soon as it arrives. Blank lines are skipped.

    A carriage return before a line end belongs to the line end; a name that ends with one, or contains a
    line end, needs ``null_separated``.

    Raises:
        UsageError: the list cannot be read, or is something else: no separator in `LONGEST_NAME` bytes.
    """
    separator, rest = (b"\0" if null_separated else b"\n"), b""
    for block in _blocks(stream):
        *names, rest = (rest + block).split(separator)
        if len(rest) > LONGEST_NAME:
            raise UsageError(f"not a list of names: {LONGEST_NAME} bytes without {separator!r}")
        yield from _without_blanks(names, null_separated)
    yield from _without_blanks([rest], null_separated)


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
