"""Colour profiles written tag by tag, and the colours that they mean, computed here by their definitions."""

from __future__ import annotations

import struct

import numpy as np

D50 = np.array([0.96422, 1.0, 0.82521])
D65 = (0.3127, 0.3290)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB_XY = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3_XY = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_XY = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
BT2020_XY = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))


def matrix(xy: tuple[tuple[float, float], ...], white: tuple[float, float] = D65) -> np.ndarray:
    """From linear RGB to XYZ seen under D50."""
    xyz = np.array([(x / y, 1, (1 - x - y) / y) for x, y in (*xy, white)]).T
    scaled = xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])
    adapt = np.diag((BRADFORD @ D50) / (BRADFORD @ xyz[:, 3]))
    return np.linalg.inv(BRADFORD) @ adapt @ BRADFORD @ scaled


def srgb_encoded(linear: np.ndarray) -> np.ndarray:
    low = np.clip(linear, 0, 1)
    return 255 * np.where(low <= 0.0031308, 12.92 * low, 1.055 * low ** (1 / 2.4) - 0.055)


def srgb_decoded(levels: np.ndarray) -> np.ndarray:
    share = np.asarray(levels) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def meant(linear: np.ndarray, xy: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The sRGB levels of linear light in other primaries."""
    return srgb_encoded(np.linalg.inv(matrix(SRGB_XY)) @ matrix(xy) @ np.asarray(linear))


def profile(space: bytes, tags: dict[bytes, bytes], *, kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    table, body, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += struct.pack(">4sII", name, at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">II4s4s4s4s", at + len(body), 0, b"\2\x10\0\0", kind, space, pcs)
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *(round(v * 65536) for v in D50))
    return head.ljust(128, b"\0") + table + body


def described(name: str) -> bytes:
    text = name.encode() + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)


def xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(v) * 65536) for v in values))


def curve(values: np.ndarray) -> bytes:
    points = np.rint(np.clip(values, 0, 1) * 65535).astype(">u2").tobytes()
    return b"curv" + bytes(4) + struct.pack(">I", len(values)) + points


def gamma(exponent: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(exponent * 256))


SRGB_CURVE = curve(srgb_decoded(np.arange(1024) / 1023 * 255))


def rgb(name: str, xy: tuple[tuple[float, float], ...], shape: bytes) -> bytes:
    columns = matrix(xy).T
    tags = {b"desc": described(name), b"wtpt": xyz(D50), b"cprt": b"text" + bytes(4) + b"none\0"}
    tags |= {tag + b"XYZ": xyz(column) for tag, column in zip((b"r", b"g", b"b"), columns, strict=True)}
    return profile(b"RGB ", tags | {tag + b"TRC": shape for tag in (b"r", b"g", b"b")})


def grey(name: str, shape: bytes) -> bytes:
    return profile(b"GRAY", {b"desc": described(name), b"wtpt": xyz(D50), b"kTRC": shape})


def cmyk() -> bytes:
    """Inks of a printer whose paper and full inks are known: a table of two points for each ink."""
    corners = np.array([[i >> 3 & 1, i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(16)], float)
    light = np.clip(1 - corners[:, :3] * 0.8, 0, 1) * (1 - corners[:, 3:])  # shares of red, green and blue
    lab = np.array([_lab(matrix(SRGB_XY) @ each) for each in light])
    table = np.stack([lab[:, 0] / 100 * 65280, (lab[:, 1] + 128) * 256, (lab[:, 2] + 128) * 256], -1)
    straight = np.array([0, 65535], ">u2").tobytes()
    body = (
        b"mft2" + bytes(4) + bytes((4, 3, 2, 0)) + struct.pack(">9i", *np.eye(3, dtype=int).ravel() * 65536)
    )
    body += struct.pack(">HH", 2, 2) + straight * 4 + np.rint(table).astype(">u2").tobytes() + straight * 3
    tags = {b"desc": described("ink"), b"wtpt": xyz(D50), b"A2B0": body}
    return profile(b"CMYK", tags, kind=b"prtr", pcs=b"Lab ")


def _lab(values: np.ndarray) -> tuple[float, float, float]:
    share = values / D50
    f = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


SRGB = rgb("unnamed", SRGB_XY, SRGB_CURVE)
P3 = rgb("Display P3", P3_XY, SRGB_CURVE)
ADOBE_RGB = rgb("Adobe RGB (1998)", ADOBE_XY, gamma(563 / 256))


def on_screen(candelas: np.ndarray) -> np.ndarray:
    """The share of an ordinary screen's white that HDR light becomes (Reinhard, 1000 being white)."""
    sheets = np.asarray(candelas) / 203
    return np.minimum(sheets * (1 + sheets * (203 / 1000) ** 2) / (1 + sheets), 1)


def pq(signal: np.ndarray) -> np.ndarray:
    """Candelas per square metre of a PQ signal (SMPTE ST 2084)."""
    root = np.asarray(signal) ** (32 / 2523)
    return 10000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (16384 / 2610)
