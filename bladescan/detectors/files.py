"""The file of a detector, read whole. It understands none."""

from __future__ import annotations

from pathlib import Path

from bladescan.base.errors import DetectorError


def read_whole(path: Path, expected: str) -> bytes:
    """Read a detector's file.

    Args:
        path: of the file.
        expected: what it should be, for the error.

    Raises:
        DetectorError: it is a folder, or cannot be read.
    """
    if path.is_dir():
        raise DetectorError(f"{path}: is a folder, expected {expected}")
    try:
        return path.read_bytes()
    except OSError as exc:
        raise DetectorError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
