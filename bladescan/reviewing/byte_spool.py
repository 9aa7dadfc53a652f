"""Bytes set aside in a private temporary file until it is known where they belong."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, NamedTuple

from bladescan.base.errors import OutputError


class Span(NamedTuple):
    """Where some bytes lie; of no bytes the length is 0."""

    start: int
    length: int


NOTHING = Span(0, 0)


class ByteSpool:
    """Pieces of bytes, written once in any order and read back by their spans."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._end = file, 0

    def write(self, piece: bytes) -> Span:
        """Keep a piece and return where it lies.

        Raises:
            OutputError: the disk is full.
        """
        with _mapped():
            self._file.seek(self._end)
            self._file.write(piece)
        span = Span(self._end, len(piece))
        self._end += len(piece)
        return span

    def read(self, span: Span) -> bytes:
        """Read a piece."""
        with _mapped():
            self._file.seek(span.start)
            return self._file.read(span.length)


@contextmanager
def open_byte_spool() -> Iterator[ByteSpool]:
    """Open a file that goes when the context ends.

    Raises:
        OutputError: it cannot be made.
    """
    with _mapped():
        file = tempfile.TemporaryFile(prefix="bladescan-")
    try:
        yield ByteSpool(file)
    finally:
        with suppress(OSError):  # what a full disk would not take is not wanted any more
            file.close()


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutputError(
            f"the report cannot use its temporary file: {exc.strerror}; set TMPDIR to a folder with room"
        ) from exc
