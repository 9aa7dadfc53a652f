"""The markers of the JPEG picture at the beginning of a file, whatever is appended to it. Nothing is decoded.

A phone appends a video, a second exposure or a gain map. Their bytes are not the picture's.

References:
    ITU-T T.81, annex B; ITU-T T.87 (JPEG-LS), annex C.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
"""Any marker but RST, which stands inside a scan."""
_MAX_MARKERS = 1 << 18
"""More than any picture has; to find them takes a quarter of a second."""
_SCAN, _END, _JPEG_LS, _LOSSLESS = 0xDA, 0xD9, 0xF7, 0xC3
_ALONE = frozenset({0x01, 0xD8, _END})
_BASELINE_TO_PROGRESSIVE = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_METADATA = frozenset({*range(0xE0, 0xF0), 0xFE})
_FRAMES = frozenset({*range(0xC0, 0xD0), _JPEG_LS}) - {0xC4, 0xC8, 0xCC}


def markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield each marker of the picture, and where what follows it begins, up to its end mark."""
    at = 2
    for _ in range(_MAX_MARKERS):
        found = _MARKER.search(data, at)
        if found is None:
            return
        marker, at = found[1][0], found.end()
        yield marker, at
        if marker == _END:
            return
        if marker not in _ALONE:
            at += max(int.from_bytes(data[at : at + 2], "big"), 2)


def jpeg_ends_early(data: bytes) -> bool:
    """Tell whether the picture lacks its end mark, whatever is appended to it."""
    return b"\xff\xd9" not in data[-1024:] and all(marker != _END for marker, _ in markers(data))


def count_scans(data: bytes, enough: int) -> int:
    """Count the scans of the picture: exactly if there may be more than ``enough``."""
    n_marks = data.count(b"\xff\xda")  # those of previews and of appended files too
    if n_marks <= enough:
        return n_marks
    found = [marker for marker, _ in markers(data)]
    return n_marks if len(found) == _MAX_MARKERS else found.count(_SCAN)


def without_metadata(data: bytes) -> bytes:
    """Leave out the metadata before the first scan, but Adobe's segment, which says what the colours are."""
    kept, start = bytearray(b"\xff\xd8"), 2
    for marker, at in markers(data):
        if marker == _SCAN:
            break
        end = at + max(int.from_bytes(data[at : at + 2], "big"), 2)
        if marker in _METADATA and (end - at < 14 or data[at + 2 : at + 7] != b"Adobe"):
            kept += data[start : at - 2].rstrip(b"\xff")
            start = end
    return bytes(kept) + data[start:]


def jpeg_variant(data: bytes) -> str | None:
    """Name the kind of JPEG that is not opened; None for one that is, or whose header makes no sense."""
    for marker, at in markers(data):
        if marker in _FRAMES:
            return _named(marker, data[at : at + 8])
        if marker == _SCAN:
            return None
    return None


def _named(marker: int, frame: bytes) -> str | None:
    n_components = frame[7] if len(frame) == 8 else 0
    if (
        not n_components
        or int.from_bytes(frame[:2], "big") != 8 + 3 * n_components
        or not 2 <= frame[2] <= 16
    ):
        return None
    if marker == _JPEG_LS:
        return "JPEG-LS"
    if marker not in _BASELINE_TO_PROGRESSIVE and (marker != _LOSSLESS or frame[2] != 8):
        return "lossless or hierarchical JPEG"
    if frame[2] != 8:
        return "JPEG of 12 bits" if frame[2] == 12 else None
    if frame[3:5] == b"\0\0":
        return "JPEG that states its height behind its pixels"
    return None if n_components in (1, 3, 4) else f"JPEG of {n_components} components"
