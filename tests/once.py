"""Files that take seconds to make, made once in a run of the tests: its processes share a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

FOLDER_VARIABLE = "TESTS_MADE_ONCE"
"""Names the folder. The first process of a run sets it; workers and the tests that tests start inherit it."""


def once(name: str, make: Callable[[Path], object]) -> Path:
    """Make a file unless a process of this run has; others wait meanwhile. Whoever changes it takes a copy.

    Args:
        name: of the file: it says all that the file is made from.
        make: writes it where it is told.
    """
    path = Path(os.environ[FOLDER_VARIABLE], name)
    with open(path.with_name(f"{name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_name(f"unfinished-{name}")
            make(unfinished)
            unfinished.rename(path)
    return path


def exported(name: str) -> bytes:
    """The ONNX graph of ``tiny``, ``bare`` or ``second``, detectors of `tests.tiny`."""
    from bladescan.exporting.onnx import export_onnx
    from tests.tiny import bare_encoder, second_detector, tiny_detector

    make = {"tiny": tiny_detector, "bare": bare_encoder, "second": second_detector}[name]
    return once(f"{name}.onnx", lambda path: export_onnx(make(), path)).read_bytes()
