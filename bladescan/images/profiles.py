"""Colour profiles: judged by what they do to colours, and made for files that state their colours otherwise.

A profile's name proves nothing. One that leaves colours as sRGB has them is sRGB, whatever it is called.

References:
    ICC.1:2022, sections 7 to 10; ITU-T H.273, section 8 (code points); ITU-R BT.2100 (PQ, HLG);
    BT.2408 (white of HDR).
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms

if TYPE_CHECKING:
    from numpy.typing import NDArray

Convert = Callable[[Image.Image], Image.Image]
Points = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
"""The chromaticities x, y of red, green, blue and white."""

SAME = 3
"""Levels of 255 by which a profile may differ from sRGB and be taken for it."""
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
_D65, _DCI, _C = (0.3127, 0.3290), (0.314, 0.351), (0.310, 0.316)
SRGB_POINTS: Points = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65)
_PRIMARIES: dict[int, Points] = {
    1: SRGB_POINTS,
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _DCI),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
}
_SRGB_LIKE = frozenset({1, 2, 6, 13, 14, 15})
"""Transfer characteristics that are shown as sRGB, as browsers do with video's camera curves."""
_LINEAR, _PQ, _HLG = 8, 16, 18
_GAMMAS = {4: 2.2, 5: 2.8, _LINEAR: 1.0}
_HDR_WHITE = 203.0
"""Candelas per square metre of a white sheet in an HDR picture, which is sRGB's white."""
_BRIGHTEST = 1000 / _HDR_WHITE
"""What becomes white, in white sheets: most HDR pictures are made for a screen of 1000."""
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


@functools.lru_cache(maxsize=32)
def to_srgb(profile: bytes, mode: str) -> Convert | None:
    """Make the conversion from a profile to sRGB.

    Args:
        profile: as a file holds it.
        mode: of the pixels: RGB, L or CMYK.

    Returns:
        None if the profile is sRGB, broken, or of another colour space: then the pixels stay.
    """
    try:
        convert = _transform(profile, mode)
        if convert is not None and mode != "CMYK" and (curve := _hdr_curve(convert(_ramp(mode)))):
            shown = _with_curve(profile, curve)
            convert = None if shown is None else _transform(shown, mode)
        return None if convert is None or _changes_nothing(convert, mode) else convert
    except Exception:  # a broken profile must not lose a readable picture
        return None


def _transform(profile: bytes, mode: str) -> Convert | None:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if source.profile.xcolor_space.strip() != _SPACES[mode]:
        return None
    convert: Convert = ImageCms.buildTransform(source, _target(), mode, "RGB").apply
    return convert


@functools.cache
def _target() -> Any:
    return ImageCms.createProfile("sRGB")


def _ramp(mode: str) -> Image.Image:
    return Image.new(mode, (1, 1), 128 if mode == "L" else (128, 128, 128))


def _changes_nothing(convert: Convert, mode: str) -> bool:
    """Tell whether the conversion leaves colours all over the gamut as they are."""
    if mode == "CMYK":
        return False
    levels = np.arange(0, 256, 51 if mode == "RGB" else 5).astype(np.uint8)
    cube = (
        np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3) if mode == "RGB" else levels[None]
    )
    shown = np.asarray(convert(Image.fromarray(np.ascontiguousarray(cube)))).astype(int)
    return int(np.abs(shown - (cube if mode == "RGB" else cube[..., None])).max()) <= SAME


def _hdr_curve(middle: Image.Image) -> int:
    """Tell an HDR transfer from others by how dark it makes middle grey, whose range reaches far above white.

    A gamma of 3 makes it 99, sRGB 128, HLG 82, PQ about 23.
    """
    level = int(np.asarray(middle).max())
    return _PQ if level < 45 else _HLG if level < 90 else 0


def _with_curve(profile: bytes, transfer: int) -> bytes | None:
    """Give the profile's primaries a curve that shows HDR on an ordinary screen; None without primaries."""
    tags = _tags(profile)
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    if any(name not in tags or len(tags[name]) < 20 for name in names):
        return None
    colorants = [tuple(v / 65536 for v in struct.unpack_from(">3i", tags[name], 8)) for name in names]
    return _written(np.array(colorants).T, _curve_of(transfer))


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(min(count, 100)))
    return {name: profile[at : at + size] for name, at, size in entries}


def profile_of_code_points(primaries: int, transfer: int) -> bytes | None:
    """Make the profile of H.273 code points, as PNG's cICP and the nclx of AVIF and HEIF have them.

    Returns:
        None where they say sRGB, nothing, or what is not known here.
    """
    points = _PRIMARIES.get(primaries, SRGB_POINTS if primaries == 2 else None)
    if points is None or not (transfer in _SRGB_LIKE or transfer in _GAMMAS or transfer in (_PQ, _HLG)):
        return None
    if points == SRGB_POINTS and transfer in _SRGB_LIKE:
        return None
    return _written(_colorants(points), _curve_of(transfer))


def profile_of_gamma(points: Points | None, gamma: float | None, *, grey: bool) -> bytes | None:
    """Make the profile of what PNG's cHRM and gAMA say.

    Args:
        points: of cHRM, if there is one.
        gamma: the exponent that decodes a sample, if there is one.
        grey: for grey pixels, which have no primaries.

    Returns:
        None where they say nothing, or nothing that can be.
    """
    if (points is None and gamma is None) or (gamma is not None and not 0.1 <= gamma <= 10):
        return None
    curve = _srgb_curve() if gamma is None else np.linspace(0, 1, 1024) ** gamma
    if grey:
        return None if gamma is None else _written(None, curve)
    try:
        colorants = _colorants(points or SRGB_POINTS)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
    return (
        _written(colorants, curve) if np.isfinite(colorants).all() and np.abs(colorants).max() < 4 else None
    )


def _curve_of(transfer: int) -> NDArray[np.float64]:
    signal = np.linspace(0, 1, 4096)
    if transfer in _GAMMAS:
        return signal ** _GAMMAS[transfer]
    if transfer == _PQ:
        return _on_screen(_pq(signal) / _HDR_WHITE)
    if transfer == _HLG:
        return _on_screen(_hlg(signal) * 1000 / _HDR_WHITE)
    return _srgb_curve()


def _srgb_curve() -> NDArray[np.float64]:
    signal = np.linspace(0, 1, 4096)
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return candelas per square metre."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    return np.asarray(10000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1))


def _hlg(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the brightest light, on a screen of 1000 candelas per square metre."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return np.asarray(scene**1.2)


def _on_screen(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring light, 1 for a white sheet, to what a screen can show, bent by Reinhard's curve."""
    return np.minimum(light * (1 + light / _BRIGHTEST**2) / (1 + light), 1.0)


def _colorants(points: Points) -> NDArray[np.float64]:
    """Return the XYZ of red, green and blue as columns, adapted to D50 as profiles have them."""
    xyz = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in points]).T
    primaries, white = xyz[:, :3], xyz[:, 3]
    scaled = primaries * np.linalg.solve(primaries, white)
    adapt = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
    return np.asarray(np.linalg.inv(_BRADFORD) @ adapt @ _BRADFORD @ scaled)


def _written(colorants: NDArray[np.float64] | None, curve: NDArray[np.float64]) -> bytes:
    """Write a profile of version 2 with one curve; of grey pixels without colorants."""
    shape = b"curv" + bytes(4) + struct.pack(">I", len(curve))
    shape += np.rint(np.clip(curve, 0, 1) * 65535).astype(">u2").tobytes()
    bodies = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 1) + bytes(79), b"wtpt": _xyz(_D50)}
    if colorants is None:
        bodies[b"kTRC"] = shape
    else:
        bodies |= {name + b"XYZ": _xyz(colorants[:, i]) for i, name in enumerate((b"r", b"g", b"b"))}
        bodies |= {name + b"TRC": shape for name in (b"r", b"g", b"b")}
    table, data, at = struct.pack(">I", len(bodies)), b"", 128 + 4 + 12 * len(bodies)
    for name, body in bodies.items():
        table += struct.pack(">4sII", name, at + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    space = b"GRAY" if colorants is None else b"RGB "
    head = struct.pack(">II4s4s4s4s", at + len(data), 0, b"\2\x40\0\0", b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *(round(v * 65536) for v in _D50))
    return head.ljust(128, b"\0") + table + data


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(v) * 65536) for v in values))
