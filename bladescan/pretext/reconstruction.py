"""A face and its reconstruction by an autoencoder: a pair that differs by the decoder's trace alone.

Both members are of one size, which is drawn, so that the grid of the decoder falls on every scale; and of
one sharpness: the photograph is blurred to that of its reconstruction, and both may then be sharpened alike.
What befalls both alike afterwards is `bladescan.pretext.examples`.

References:
    Rajan et al., "Aligned Datasets Improve Detection of Latent Diffusion-Generated Images", ICLR 2025
    (pairs by reconstruction); Chen et al., "Dual Data Alignment", 2025 (size, compression and frequency
    aligned as well).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import RecipeError
from bladescan.pretext.face_regions import Landmarks
from bladescan.pretext.manipulations import (
    AUTOENCODE,
    BLEND_RATIOS,
    UNTOUCHED,
    Edit,
    Example,
    Pixels,
    face_or_frame,
    paste,
)
from bladescan.runtimes.onnx_session import UnloadableGraphError, open_session
from bladescan.tasks.recipe import AutoencodeRecipe

MULTIPLE = 16
"""Height and width of what an autoencoder is given are multiples of this many pixels."""

_SUFFIX = ".onnx"
_FEWEST_DB = 18.0  # of a smooth picture; even grey alone has 14
_MOST_SOFTENING, _MOST_GAIN = 4.0, 3.0
_BISECTIONS = 7


def autoencoder_files(names: Sequence[str]) -> tuple[Path, ...]:
    """List the ONNX files that a recipe names, those of a folder in order.

    Raises:
        RecipeError: one is missing, or a folder has none.
    """
    files: list[Path] = []
    for name in names:
        path = Path(name)
        found = sorted(path.glob(f"*{_SUFFIX}")) if path.is_dir() else [path]
        if not found or not all(file.is_file() for file in found):
            what = f"has no {_SUFFIX} file" if path.is_dir() else "no such file"
            raise RecipeError(f"manipulations.autoencode.files: {name}: {what}")
        files += found
    return tuple(files)


def check_autoencoder(file: Path) -> None:
    """Reconstruct a smooth picture.

    Raises:
        RecipeError: the file takes or gives something else than pictures, or not the same picture again.
    """
    place = np.linspace(-1, 1, 128, dtype=np.float32)
    picture = np.stack([np.add.outer(place, place) / 2, *np.meshgrid(place, place)], 2)
    pixels = _bytes(0.7 * picture)
    again = Autoencoders((file,)).reconstruct(0, pixels)
    error = float(((again.astype(np.float64) - pixels) ** 2).mean())
    ratio = 10 * np.log10(255**2 / max(error, 1e-6))
    if ratio < _FEWEST_DB:
        raise RecipeError(
            f"manipulations.autoencode.files: {file}: a picture comes out of it unlike it went in "
            f"({ratio:.0f} dB): it must take RGB from -1 to 1 and give the same picture back"
        )


class Autoencoders:
    """Graphs that take pictures and give them back: float32 RGB ``[n, 3, h, w]`` from -1 to 1, both ways.

    Each process opens its own sessions, on one thread, when it first needs them; so what comes out does not
    depend on how many processes there are.

    Args:
        files: ONNX files.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self._sessions: dict[tuple[int, int], Any] = {}

    def __len__(self) -> int:
        return len(self.files)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the sessions behind: a session cannot be sent to a process."""
        return {"files": self.files, "_sessions": {}}

    def reconstruct(self, which: int, pixels: Pixels) -> Pixels:
        """Reconstruct a picture.

        Args:
            which: of the files.
            pixels: uint8 RGB ``[h, w, 3]``, both sides multiples of `MULTIPLE`; a graph of one fixed size
                gets it resized to that, and its answer is resized back.

        Raises:
            RecipeError: the file takes or gives something else than pictures.
        """
        session = self._session(which)
        given = session.get_inputs()[0]
        height, width = pixels.shape[:2]
        fixed_height, fixed_width = (n if isinstance(n, int) else None for n in given.shape[2:])
        sides = fixed_width or width, fixed_height or height
        x = pixels if sides == (width, height) else _resized(pixels, *sides)
        batch = (x.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
        try:
            out = session.run(None, {given.name: np.ascontiguousarray(batch)})[0]
        except Exception as exc:  # onnxruntime's own classes are private to it
            self._refuse(which, str(exc).splitlines()[0])
        if out.shape != batch.shape:
            self._refuse(which, f"it gives {list(out.shape)} for {list(batch.shape)}")
        again = _bytes(out[0].transpose(1, 2, 0))
        return again if again.shape == pixels.shape else _resized(again, width, height)

    def _session(self, which: int) -> Any:
        key = os.getpid(), which
        if key not in self._sessions:
            try:
                session = open_session(self.files[which], threads=1)
            except UnloadableGraphError as exc:
                self._refuse(which, str(exc))
            inputs, outputs = session.get_inputs(), session.get_outputs()
            if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
                self._refuse(which, "it must have one input, float32 [n, 3, h, w]")
            if outputs[0].type != "tensor(float)" or inputs[0].shape[1] not in (3, None):
                self._refuse(which, "it must take and give float32 [n, 3, h, w]")
            self._sessions[key] = session
        return self._sessions[key]

    def _refuse(self, which: int, why: str) -> None:
        raise RecipeError(
            f"manipulations.autoencode.files: {self.files[which]}: no autoencoder of pictures: {why}"
        )


class ReconstructedPair(NamedTuple):
    """A face twice, and where it is in both.

    Attributes:
        untouched: not reconstructed.
        reconstructed: the face, or all of it.
        zoom: from the stored picture's pixels to these, horizontally and vertically.
    """

    untouched: Example
    reconstructed: Example
    zoom: tuple[float, float]


def reconstructed_pair(
    pixels: Pixels,
    landmarks: Landmarks,
    autoencoders: Autoencoders,
    recipe: AutoencodeRecipe,
    rng: np.random.Generator,
) -> ReconstructedPair:
    """Make a face and its reconstruction.

    Args:
        pixels: RGB with context ``[h, w, 3]``, unchanged.
        landmarks: of the face in it.
        autoencoders: one is drawn.
        recipe: ranges and probabilities.
        rng: the only source of chance.
    """
    which = int(rng.integers(len(autoencoders)))
    small = _at_drawn_size(pixels, recipe.side, rng)
    again = autoencoders.reconstruct(which, small)
    if rng.random() < recipe.equal_sharpness:
        small, again = equally_sharp(small, again, rng)
    zoom = small.shape[1] / pixels.shape[1], small.shape[0] / pixels.shape[0]
    region = face_or_frame(small, landmarks * np.array(zoom, np.float32), rng)
    made = paste(small, Edit(again, region), float(rng.choice(BLEND_RATIOS)))
    return ReconstructedPair(Example(small, UNTOUCHED, (0, 0, 0)), Example(made, AUTOENCODE, (1, 1, 1)), zoom)


def equally_sharp(photograph: Pixels, again: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Bring a photograph and its reconstruction to one sharpness.

    The photograph is made as blurred as the reconstruction, by a Gaussian or through a smaller size; then, as
    often as not, both are sharpened by one drawn gain: sharp or soft, with halos or without says nothing.
    """
    way = _blurred if rng.random() < 0.5 else _through_smaller
    gain = rng.uniform(0, _MOST_GAIN) if rng.random() < 0.5 else 0.0
    softened = _as_sharp(photograph, sharpness(again), way)
    return (_sharpened(softened, gain), _sharpened(again, gain)) if gain else (softened, again)


def sharpness(pixels: Pixels) -> float:
    """Measure the mean absolute Laplacian of the luminance."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())


def _as_sharp(pixels: Pixels, wanted: float, soften: Callable[[Pixels, float], Pixels]) -> Pixels:
    """Find by bisection how much softening leaves a sharpness; none if there is not more of it."""
    if sharpness(pixels) <= wanted:
        return pixels
    low, high = 0.0, _MOST_SOFTENING
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if sharpness(soften(pixels, middle)) > wanted else (low, middle)
    return soften(pixels, (low + high) / 2)


def _blurred(pixels: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), max(sigma, 1e-3)), np.uint8)


def _through_smaller(pixels: Pixels, amount: float) -> Pixels:
    height, width = pixels.shape[:2]
    small = _resized(pixels, max(round(width / (1 + amount)), 1), max(round(height / (1 + amount)), 1))
    return _resized(small, width, height)


def _sharpened(pixels: Pixels, gain: float) -> Pixels:
    soft = cv2.GaussianBlur(pixels, (0, 0), 1.0).astype(np.float32)
    return np.clip(np.round(pixels + gain * (pixels - soft)), 0, 255).astype(np.uint8)


def _at_drawn_size(pixels: Pixels, sides: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """Resize so that the longer side is between the two, to multiples of what a decoder needs."""
    longer = float(np.exp(rng.uniform(*np.log(sides))))
    zoom = longer / max(pixels.shape[:2])
    height, width = (MULTIPLE * max(round(zoom * n / MULTIPLE), 1) for n in pixels.shape[:2])
    return _resized(pixels, width, height)


def _resized(pixels: Pixels, width: int, height: int) -> Pixels:
    smaller = width * height < pixels.shape[0] * pixels.shape[1]
    kernel = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=kernel), np.uint8)


def _bytes(picture: NDArray[np.floating]) -> Pixels:
    return np.clip(np.round((picture + 1) * 127.5), 0, 255).astype(np.uint8)
