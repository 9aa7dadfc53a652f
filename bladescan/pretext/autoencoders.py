"""The autoencoders that a recipe names, ready to reconstruct pictures in any process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bladescan.base.errors import DetectorError, RecipeError, first_line
from bladescan.foreign.autoencoder import Autoencoder, check_alike, tried_autoencoder
from bladescan.foreign.onnx_graph import read_graph
from bladescan.pretext.manipulations import Pixels
from bladescan.runtimes.onnx_session import open_session
from bladescan.tasks.recipe import AutoencodeRecipe

_SUFFIX, _KEY = ".onnx", "manipulations.autoencode"


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
            raise RecipeError(f"{_KEY}.files: {name}: {what}")
        files += found
    return tuple(files)


class Autoencoders:
    """Graphs that take pictures and give them back, each tried first.

    Each process opens its own sessions, on one thread, when it first needs them; so what comes out does not
    depend on how many processes there are.

    Args:
        recipe: names the files, and says between which values their pixels lie.

    Raises:
        RecipeError: a file is missing, or takes or gives something else than pictures.
    """

    def __init__(self, recipe: AutoencodeRecipe) -> None:
        self.files = autoencoder_files(recipe.files)
        self._graphs = tuple(_tried(file, recipe.range) for file in self.files)
        self._sessions: dict[tuple[int, int], Any] = {}

    def __len__(self) -> int:
        return len(self.files)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the sessions behind: a session cannot be sent to a process."""
        return {**self.__dict__, "_sessions": {}}

    def check(self) -> None:
        """Raise RecipeError where one does not give the same picture back."""
        for file, graph in zip(self.files, self._graphs, strict=True):
            try:
                check_alike(graph, f"{_KEY}.range=[LOW,HIGH]", where=file.name)
            except DetectorError as exc:
                raise RecipeError(f"{_KEY}.files: {exc}") from exc

    def multiple(self, which: int) -> int:
        """Return the number of which height and width must be multiples; 1 for a graph of one size."""
        return self._graphs[which].multiple

    def reconstruct(self, which: int, pixels: Pixels) -> Pixels:
        """Reconstruct a picture.

        Args:
            which: of the files.
            pixels: uint8 RGB ``[h, w, 3]``, both sides multiples of `multiple`; a graph of one fixed size
                gets it resized to that, and its answer is resized back.

        Raises:
            RecipeError: it cannot reconstruct a picture of this size.
        """
        graph = self._graphs[which]
        height, width = pixels.shape[:2]
        x = resized(pixels, graph.side or width, graph.side or height)
        try:
            (levels,) = graph.reconstruct(self._session(which), x[None] / np.float32(255))
        except Exception as exc:  # DetectorError, and onnxruntime's own classes, which are private to it
            raise RecipeError(f"{_KEY}.files: {self.files[which].name}: {first_line(exc)}") from exc
        return resized(np.clip(np.round(255 * levels), 0, 255).astype(np.uint8), width, height)

    def _session(self, which: int) -> Any:
        key = os.getpid(), which
        if key not in self._sessions:
            self._sessions[key] = open_session(self.files[which], threads=1)
        return self._sessions[key]


def _tried(file: Path, between: tuple[float, float]) -> Autoencoder:
    try:
        return tried_autoencoder(read_graph(file), between)
    except DetectorError as exc:
        raise RecipeError(f"{_KEY}.files: {exc}") from exc


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resize a picture; one of that size is returned as it is."""
    if pixels.shape[:2] == (height, width):
        return pixels
    smaller = width * height < pixels.shape[0] * pixels.shape[1]
    kernel = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=kernel), np.uint8)
