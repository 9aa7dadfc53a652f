"""Copies of detectors beside the file that joins them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bladescan.base.errors import OutputError
from bladescan.base.output_files import write_file
from bladescan.detectors.cascade import SUFFIX, part_files, read_cascade
from bladescan.detectors.parts import file_digest


def copy_beside(parts: Iterable[Path], output: Path) -> None:
    """Copy detectors, with the parts of those that are cascades, beside a file unless they lie there.

    Raises:
        DetectorError: a cascade lacks a part.
        OutputError: another file of a part's name lies there, or one cannot be written.
    """
    for part in parts:
        for file in (part, *_own_parts(part)):
            copy = output.parent / file.name
            if not copy.exists():
                write_file(copy, file.read_bytes())
            elif file_digest(copy) != file_digest(file):
                raise OutputError(
                    f"{copy}: another detector has the name of a part of {output.name}; move one away"
                )


def _own_parts(path: Path) -> tuple[Path, ...]:
    return part_files(path, read_cascade(path)) if path.suffix.lower() == SUFFIX else ()
