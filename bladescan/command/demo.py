"""Sample pictures for a first scan. They are made on the user's machine; none ships with the package."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from bladescan.base.errors import MissingDependencyError, OutputError

_ORIENTATION = 0x0112
_ROTATED_CLOCKWISE = 6


def write_samples(folder: Path) -> list[Path]:
    """Write five sample pictures: three with a face, one without, one cut off.

    The face is the public-domain portrait of Grace Hopper that matplotlib ships as sample data.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: the folder cannot be written.
    """
    samples = _samples(_portrait())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in samples.items():
            (folder / name).write_bytes(data)
    except OSError as exc:
        raise OutputError(f"cannot write samples to {folder}: {exc.strerror}") from exc
    return [folder / name for name in samples]


def _portrait() -> Image.Image:
    package = find_spec("matplotlib")
    if package is None or package.origin is None:
        install = "pip install 'bladescan[demo]'"
        raise MissingDependencyError("the sample portrait", "matplotlib", install)
    path = Path(package.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    with Image.open(path) as image:
        return image.convert("RGB")


def _samples(portrait: Image.Image) -> dict[str, bytes]:
    jpeg = _encode(portrait, "JPEG", quality=92)
    return {
        "cut-off.jpg": jpeg[: len(jpeg) // 2],
        "no-face.webp": _encode(_clouds(), "WEBP", quality=85),
        "portrait.jpg": jpeg,
        "sideways.jpg": _encode(portrait.rotate(90, expand=True), "JPEG", exif=_rotated(), quality=92),
        "two-faces.png": _encode(_side_by_side(portrait, ImageOps.mirror(portrait)), "PNG"),
    }


def _encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[_ORIENTATION] = _ROTATED_CLOCKWISE
    return exif


def _side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    both = Image.new("RGB", (left.width + right.width, left.height))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    return both


def _clouds() -> Image.Image:
    noise = np.random.default_rng(0).integers(90, 240, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC)
