"""Face crops of photographs that int8 is calibrated on and compared on. It quantises nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError
from bladescan.detectors.manifest import Manifest
from bladescan.exporting.quantisation import FEWEST_CROPS
from bladescan.scanning.cut_faces import cut_faces, listed
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.decoders import decoder_pool
from bladescan.sources.source import Source

MOST_FACES = 2_000
"""Faces that are looked at, 150 kB each; the photographs after them are left."""


def cut_calibration_crops(
    photographs: Iterable[Source],
    manifest: Manifest,
    decoder: DecoderSettings,
    *,
    n_decoders: int = 1,
    progress: Callable[[int], None] = lambda n: None,
) -> NDArray[np.uint8]:
    """Cut out of photographs what a detector judges, by its rule, uint8 ``[n, 224, 224, 3]``.

    Raises:
        DataError: there are too few.
    """
    settings = decoder.for_detector(manifest)
    with decoder_pool(n_decoders, settings) as pool:
        pool.start()
        faces = cut_faces(photographs, pool, enough=MOST_FACES, progress=progress)
    if len(faces.crops) < FEWEST_CROPS:
        skipped = listed(faces.skipped, "no other image")
        raise DataError(f"{len(faces.crops)} faces found ({skipped}): int8 needs at least {FEWEST_CROPS}")
    return faces.crops
