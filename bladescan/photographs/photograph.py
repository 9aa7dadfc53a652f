"""One photograph to learn from: a face with its context, or a patch of a picture without a face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

Tags = Mapping[str, float | str]
"""By task name: a number where the task is ordinal, the name of a class where it is categorical."""

PhotographKind = Literal["face", "patch", "none"]


@dataclass(frozen=True, slots=True, eq=False)
class Photograph:
    """One photograph to learn from: a face with context, or a patch of a picture without a face.

    Attributes:
        pixels: RGB ``[h, w, 3]``; `bladescan.photographs.cutting` bounds its sides.
        box: x0, y0, x1, y1 of the face in pixels of ``pixels``; None for a patch.
        landmarks: ``[5, 2]``, see `bladescan.pretext.face_regions.Landmarks`; None for a patch.
        tags: EXIF by task name, see `bladescan.exif.tags.Exif`; what is missing has no key.
        camera: normalised make and model, empty where unknown.
    """

    pixels: Pixels
    box: tuple[float, float, float, float] | None = None
    landmarks: NDArray[np.float32] | None = None
    tags: Tags = field(default_factory=dict)
    camera: str = ""

    @property
    def kind(self) -> PhotographKind:
        """``face`` or ``patch``."""
        return "patch" if self.box is None else "face"
