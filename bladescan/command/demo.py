"""Sample pictures for a first scan. They are made on the user's machine; none ships with the package."""

from __future__ import annotations

import io
import os
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

    A file that is there already is left as it is, and must be the same picture.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: the folder cannot be written, or holds another file of such a name.
    """
    samples = _samples(_portrait())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = [name for name, data in samples.items() if _is_new(folder / name, data)]
        for name in missing:
            with open(folder / name, "xb") as file:
                file.write(samples[name])
    except OSError as exc:
        raise OutputError(f"cannot write samples to {folder}: {exc.strerror}") from exc
    return [folder / name for name in samples]


def _is_new(path: Path, data: bytes) -> bool:
    """Tell whether there is no such file.

    Raises:
        OutputError: there is one, and it is something else.
    """
    if not os.path.lexists(path):
        return True
    if not path.is_file() or path.read_bytes() != data:
        raise OutputError(f"{path} is there already, and is not the sample; give another folder")
    return False


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
