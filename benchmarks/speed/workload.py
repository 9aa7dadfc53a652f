"""Pictures to measure speed on: made here from one public-domain portrait, so that anybody has the same."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from bladescan.command.demo import write_samples

KINDS: Mapping[str, tuple[int, int, int]] = {
    "512 px, one face": (512, 512, 1),
    "1024 px, one face": (1024, 1024, 1),
    "1024 px, four faces": (1024, 1024, 4),
    "1024 px, no face": (1024, 1024, 0),
    "2048 px, one face": (2048, 2048, 1),
    "12 megapixels, one face": (4000, 3000, 1),
}
"""Name: width, height and faces."""
TYPICAL = "1024 px, one face"
_QUALITY = 90
_GRAIN = 6.0


def portrait(folder: Path) -> Image.Image:
    """The portrait of the sample pictures."""
    write_samples(folder)
    with Image.open(folder / "portrait.jpg") as image:
        return image.convert("RGB")


def jpeg(kind: str, face: Image.Image, seed: int) -> bytes:
    """One JPEG of a kind: clouds, faces, and a camera's grain, for smooth pictures decode faster."""
    width, height, n_faces = KINDS[kind]
    rng = np.random.default_rng(seed)
    clouds = rng.integers(60, 220, (7, 9, 3), dtype=np.uint8)
    image = Image.fromarray(clouds).resize((width, height), Image.Resampling.BICUBIC)
    columns = 1 if n_faces < 2 else 2
    for i in range(n_faces):
        cell_w, cell_h = width // columns, height // columns
        scale = 0.9 * min(cell_w / face.width, cell_h / face.height)
        shown = face.resize((round(face.width * scale), round(face.height * scale)), Image.Resampling.LANCZOS)
        left = (i % columns) * cell_w + (cell_w - shown.width) // 2
        image.paste(shown, (left, (i // columns) * cell_h + cell_h - shown.height))
    pixels = np.asarray(image, np.float32)
    grain = rng.normal(0.0, _GRAIN, (*pixels.shape[:2], 1)).astype(np.float32)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def write_folder(folder: Path, kind: str, face: Image.Image, n: int, n_different: int = 16) -> Path:
    """``n`` files of one kind, of which ``n_different`` differ in their pixels."""
    folder.mkdir(parents=True)
    made = [jpeg(kind, face, seed) for seed in range(min(n, n_different))]
    for i in range(n):
        (folder / f"{i:05}.jpg").write_bytes(made[i % len(made)])
    return folder
