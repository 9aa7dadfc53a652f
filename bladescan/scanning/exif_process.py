"""What a process for EXIF does: it reads the tags of one stranger's file at a time. It may die."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import msgspec

from bladescan.base.errors import ImageError
from bladescan.base.records import Reason
from bladescan.exif.tags import Exif, read_exif
from bladescan.images.files import read_file
from bladescan.images.limits import Limits
from bladescan.processes.service import Lost, Service
from bladescan.processes.worker import WorkerProcess
from bladescan.scanning.decoder_process import bound_memory


class ExifRequest(msgspec.Struct, frozen=True):
    """One file, by its path in the file system's own bytes."""

    path: bytes


class ExifAnswer(msgspec.Struct, frozen=True):
    """The tags, or why there are none to read."""

    exif: Exif | None = None
    problem: str = ""


class ExifReady(msgspec.Struct, frozen=True):
    """The process has started."""


def exif_of(path: str, limits: Limits, timeout_s: float) -> ExifAnswer:
    """Read the tags of a file in a process of its own, which ends with it."""
    process = WorkerProcess(READING_EXIF, limits, timeout_s)
    try:
        return process.ask(ExifRequest(os.fsencode(path)))
    finally:
        process.kill()


def _begin(limits: Limits) -> tuple[ExifReady, Callable[[ExifRequest], ExifAnswer]]:
    bound_memory(limits)
    return ExifReady(), partial(_read, limits=limits)


def _read(request: ExifRequest, limits: Limits) -> ExifAnswer:
    try:
        return ExifAnswer(read_exif(read_file(os.fsdecode(request.path), limits)))
    except ImageError as exc:
        return ExifAnswer(problem=exc.reason.value)
    except MemoryError:
        return ExifAnswer(problem=Reason.DECODER_CRASHED.value)


def _lost(lost: Lost) -> ExifAnswer:
    return ExifAnswer(problem=f"{lost.reason.value}: {lost.how}")


READING_EXIF: Service[Limits, ExifReady, ExifRequest, ExifAnswer] = Service(
    name=f"{__name__}:READING_EXIF",
    begin=_begin,
    lost=_lost,
    settings=Limits,
    ready=ExifReady,
    request=ExifRequest,
    answer=ExifAnswer,
    called="the process for EXIF",
)
