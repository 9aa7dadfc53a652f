"""Looking for no face: every photograph with EXIF gives a patch, also one that shows a face."""

from __future__ import annotations

from bladescan.base.records import FaceBox
from bladescan.faces.finders import FaceFinder, open_face_finder
from bladescan.faces.pictures import AnyImage

NO_FACES = "no-faces"
"""In place of a face finder's name; no user says it."""


class NoFaces:
    """Finds no face in any image."""

    name = NO_FACES

    def find(self, image: AnyImage) -> list[FaceBox]:
        """Find nothing."""
        return []


def open_finder(name: str) -> FaceFinder:
    """Load a face finder by its name, or the one that finds nothing.

    Args:
        name: as for `bladescan.faces.finders.open_face_finder`, which raises the same errors, or `NO_FACES`.
    """
    return NoFaces() if name == NO_FACES else open_face_finder(name)
