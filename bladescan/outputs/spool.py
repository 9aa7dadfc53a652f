"""Records held back in a private temporary file, because rows must wait for the last image."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import BinaryIO

import msgspec

from bladescan.base.errors import OutputError, TooManyErrorsError
from bladescan.base.records import ImageRecord


class Spool:
    """Records in a file. JSON, not MessagePack: its escapes keep names that are not UTF-8."""

    def __init__(self, file: BinaryIO, option: str) -> None:
        self._file, self._option = file, option
        self._end = 0

    def write(self, record: ImageRecord) -> int:
        """Keep a record.

        Returns:
            Its place, for `at`.

        Raises:
            OutputError: the disk is full.
        """
        place, line = self._end, json.dumps(asdict(record)).encode() + b"\n"
        with _mapped(self._option):
            self._file.write(line)
        self._end += len(line)
        return place

    def read(self) -> Iterator[ImageRecord]:
        """Yield all records in the order in which they were written."""
        with _mapped(self._option):
            self._file.seek(0)
        for line in self._file:
            yield _record(line)

    def at(self, places: Iterable[int]) -> Iterator[ImageRecord]:
        """Yield the records that were written at some places, in their order."""
        for place in places:
            with _mapped(self._option):
                self._file.seek(place)
                line = self._file.readline()
            yield _record(line)


def _record(line: bytes) -> ImageRecord:
    return msgspec.convert(json.loads(line), ImageRecord)


@contextmanager
def open_spool(option: str) -> Iterator[Spool]:
    """Open a file that goes when the context ends.

    Args:
        option: of the command, which needs it; for errors.

    Raises:
        OutputError: it cannot be made.
    """
    with _mapped(option):
        file = tempfile.TemporaryFile(prefix="bladescan-")
    try:
        yield Spool(file, option)
    finally:
        with suppress(OSError):  # what a full disk would not take is not wanted any more
            file.close()


def keeps_finished(exc: BaseException) -> bool:
    """Tell whether what was finished is to come out of a scan that an exception broke off."""
    if isinstance(exc, Exception):
        return isinstance(exc, TooManyErrorsError)
    return not isinstance(exc, GeneratorExit)


@contextmanager
def _mapped(option: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutputError(
            f"{option} cannot use its temporary file: {exc.strerror}; set TMPDIR to a folder with room"
        ) from exc
