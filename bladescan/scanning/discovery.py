"""Flagging by a false-discovery rate: rows are held back until all faces are scored, then judged again."""

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
from bladescan.detectors.calibration import benjamini_hochberg
from bladescan.scanning.judging import judge_again


def flag_by_discovery_rate(records: Iterable[ImageRecord], rate: float) -> Iterator[ImageRecord]:
    """Hold all records back in a private temporary file until the batch's threshold is known.

    When the scan is broken off there is no batch to judge: what was finished comes out as the detector's own
    false-alarm rate decided it.
    """
    p_values: list[float] = []
    with _spool() as spool:
        try:
            for record in records:
                p_values += [face.p_value for face in record.faces]
                spool.write(record)
        except TooManyErrorsError:
            yield from spool.read()
            raise
        except (Exception, GeneratorExit):
            raise
        except BaseException:
            yield from spool.read()
            raise
        threshold = benjamini_hochberg(p_values, rate)
        yield from (judge_again(record, threshold) for record in spool.read())


class _Spool:
    """Records in a file. JSON, not MessagePack: its escapes keep names that are not UTF-8."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, record: ImageRecord) -> None:
        with _mapped():
            self._file.write(json.dumps(asdict(record)).encode() + b"\n")

    def read(self) -> Iterator[ImageRecord]:
        with _mapped():
            self._file.seek(0)
        for line in self._file:
            yield msgspec.convert(json.loads(line), ImageRecord)


@contextmanager
def _spool() -> Iterator[_Spool]:
    with _mapped():
        file = tempfile.TemporaryFile(prefix="bladescan-")
    try:
        yield _Spool(file)
    finally:
        with suppress(OSError):  # what a full disk would not take is not wanted any more
            file.close()


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutputError(
            f"--fdr cannot use its temporary file: {exc.strerror}; set TMPDIR to a folder with room"
        ) from exc
