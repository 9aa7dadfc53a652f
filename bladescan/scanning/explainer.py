"""What the score of a face rests on: its map, how it outlasts re-shipping, its rank among photographs.

It changes no score and no verdict. Which faces are explained is said by `bladescan.scanning.explaining`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bladescan.base.records import Explanation, FaceVerdict
from bladescan.detectors.calibration import p_values, photographic_scores, photographs_behind
from bladescan.detectors.manifest import FaceRule, HeadName, Manifest
from bladescan.detectors.neighbours import Neighbourhood
from bladescan.detectors.suspicion import suspicion
from bladescan.faces.crops import part_in_picture
from bladescan.faces.pictures import Corners
from bladescan.faces.views import VIEWS
from bladescan.runtimes.backend import Backend
from bladescan.scanning.occlusion import (
    GRID,
    N_COPIES,
    REACH,
    cell_map,
    covered_copies,
    strongest_window,
)
from bladescan.scanning.scoring import score_in_batches

RUNS = N_COPIES + len(VIEWS)
"""Runs of the detector for each flagged face, views included."""
N_NEAREST = 3
LANDMARKS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
"""In the order of `FaceBox.landmarks`; left as somebody sees it who looks at the upright face."""


@dataclass(frozen=True, slots=True)
class SeenFace:
    """A face as it was decoded.

    Attributes:
        crop: uint8 ``[224, 224, 3]``, or ``[m, 224, 224, 3]`` where it is cut out in m ways.
        embedding: ``[d]``.
        views: of it, uint8 ``[n, 224, 224, 3]`` or ``[n, m, 224, 224, 3]``; n may be 0.
        size: width and height of its picture in pixels.
    """

    crop: NDArray[np.uint8]
    embedding: NDArray[np.float32]
    views: NDArray[np.uint8]
    size: tuple[int, int]


class Explainer:
    """Explains faces by scoring changed copies of them.

    Args:
        backend: the detector.
        head: that decided.
        rule: how a box became a crop.
        batch_size: most crops in a run.

    Raises:
        DetectorError: the manifest's sketches of photographs are none.
    """

    def __init__(self, backend: Backend, head: HeadName, rule: FaceRule, batch_size: int) -> None:
        self._backend, self._head, self._rule, self._batch_size = backend, head, rule, batch_size
        kept = backend.manifest.neighbours
        self._around = None if kept is None else Neighbourhood(kept, where=backend.manifest.name)

    def explain(self, face: FaceVerdict, seen: SeenFace) -> FaceVerdict:
        """Explain one face; one whose score is not finite stays as it is.

        Its views are scored unless they were; `bladescan.scanning.explaining.with_flips` says what follows.

        Raises:
            BackendError: the runtime failed.
        """
        falls = face.score - self._scores(_covered(seen.crop))
        views = face.views or self._ranks(seen.views)
        if not np.isfinite(falls).all():
            return face
        found = self._explanation(face, falls, seen.size)
        if self._around is not None:
            found = self._with_nearest(found, seen.embedding, self._around)
        return replace(face, views=views, explanation=found)

    def _with_nearest(
        self, found: Explanation, embedding: NDArray[np.float32], around: Neighbourhood
    ) -> Explanation:
        angles = around.nearest(embedding, N_NEAREST)
        n_as_far = around.n_as_far(float(angles[0]))
        return replace(found, nearest_degrees=tuple(angles.tolist()), n_as_far=n_as_far)

    def _explanation(
        self, face: FaceVerdict, falls: NDArray[np.float64], size: tuple[int, int]
    ) -> Explanation:
        manifest, cells = self._backend.manifest, cell_map(falls)
        head = manifest.heads[self._head]
        window = strongest_window(cells)
        row, column = divmod(window, GRID)
        left, top, right, bottom = column - REACH, row - REACH, column + REACH + 1, row + REACH + 1
        shares = left / GRID, top / GRID, right / GRID, bottom / GRID
        region = part_in_picture(face.box, size, self._rule, shares)
        return Explanation(
            grid=tuple(tuple(row.tolist()) for row in cells),
            region=region,
            where=described(row, column, face, region),
            fall=float(falls[window]),
            n_photographs=head.n_held_out,
            n_as_suspicious=photographs_behind(head, face.p_value),
            n_as_unlikely=_n_as_unlikely(face, manifest),
        )

    def _scores(self, crops: NDArray[np.uint8]) -> NDArray[np.float64]:
        found = score_in_batches(self._backend, crops, self._batch_size)
        assert found is not None
        return suspicion(photographic_scores(found, self._head), self._head)

    def _ranks(self, views: NDArray[np.uint8]) -> tuple[float, ...]:
        found = score_in_batches(self._backend, views, self._batch_size)
        if found is None:
            return ()
        calibration = self._backend.manifest.heads[self._head]
        ranks = p_values(calibration, photographic_scores(found, self._head))
        return tuple(ranks.tolist())


def _covered(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cover each cell; of a face that is cut out in several ways the same cell of each."""
    if crop.ndim == 3:
        return covered_copies(crop)
    return np.stack([covered_copies(cut) for cut in crop], 1)


def _n_as_unlikely(face: FaceVerdict, manifest: Manifest) -> int | None:
    """Count the held-out photographs whose embedding is as unlikely among photographs as that of a face."""
    head = manifest.heads.get("one-class")
    if head is None or face.log_likelihood is None:
        return None
    return photographs_behind(head, float(p_values(head, face.log_likelihood)))


def described(row: int, column: int, face: FaceVerdict, region: Corners) -> str:
    """Say in words where a window lies in the upright crop, and which landmarks it covers if they are known.

    Args:
        row: of its middle cell.
        column: of its middle cell.
        face: whose window it is.
        region: of the window, in pixels of the frame.
    """
    across, down = ("left", "middle", "right")[_third(column)], ("upper", "middle", "lower")[_third(row)]
    said = "centre" if across == down else f"{down} {across}"
    points = None if face.box is None else face.box.landmarks
    x0, y0, x1, y1 = region
    covered = [
        name for name, (x, y) in zip(LANDMARKS, points or (), strict=False) if x0 <= x < x1 and y0 <= y < y1
    ]
    return f"{said} ({', '.join(covered)})" if covered else said


def _third(cell: int) -> int:
    return int(3 * (cell + 0.5) / GRID)
