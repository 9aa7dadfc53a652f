"""The faces of many images, or whole images, cut out as a scan cuts them and kept. It scores none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from bladescan.base.records import Verdict
from bladescan.faces.crops import crop_side
from bladescan.scanning.decoder_process import Decoded, DecoderSettings, Face
from bladescan.scanning.decoders import DecoderPool
from bladescan.scanning.pipeline import as_crops, decode_in_order
from bladescan.sources.source import Source


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces of some images, or whole images, cut out.

    Attributes:
        crops: uint8 RGB ``[n_crops, 224, 224, 3]``; about 150 kB each, all in memory. Detectors that are
            combined may have faces cut out in m ways, ``[n_crops, m, 224, 224, 3]``.
        counts: ``[n_faces]``, crops of each: one, or the tiles of a whole image.
        crop_sides: ``[n_faces]``, side in pixels of the image of the square that became the crop.
        images: ``[n_faces]``, index into ``names`` and ``decoded``.
        names: of the images with a face.
        decoded: what was decoded of them, without the crops.
        skipped: images without a face or not readable, by reason.
    """

    crops: NDArray[np.uint8]
    counts: NDArray[np.intp]
    crop_sides: NDArray[np.float64]
    images: NDArray[np.intp]
    names: list[str]
    decoded: list[Decoded]
    skipped: dict[str, int]

    @property
    def first_cuts(self) -> NDArray[np.uint8]:
        """The crops ``[n_crops, 224, 224, 3]`` of the first way in which faces are cut out."""
        return self.crops if self.crops.ndim == 4 else self.crops[:, 0]

    @property
    def first_crops(self) -> NDArray[np.intp]:
        """Where the crops of each begin, ``[n_faces]``."""
        return np.cumsum(self.counts) - self.counts


def cut_faces(
    sources: Iterable[Source],
    pool: DecoderPool,
    *,
    enough: int | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> Faces:
    """Cut every face out of every image and keep the crops.

    Args:
        sources: the images.
        pool: who decodes; its settings hold the face finder and the crop rule.
        enough: faces, with which the image is the last that is looked at; None takes all.
        progress: called with the number of images just done.
    """
    pixels = bytearray()
    sides: list[float] = []
    counts: list[int] = []
    names: list[str] = []
    found: list[Decoded] = []
    skipped: Counter[str] = Counter()
    for source, decoded in with_faces(sources, pool, skipped, progress):
        pixels += decoded.crops
        sides += [_crop_side(face, decoded, pool.settings) for face in decoded.faces]
        counts += [face.n_crops for face in decoded.faces]
        names.append(source.name)
        found.append(msgspec.structs.replace(decoded, crops=b""))
        if enough is not None and len(sides) >= enough:
            break
    crops = as_crops(pixels, sum(counts))
    images = np.repeat(np.arange(len(found)), [len(decoded.faces) for decoded in found])
    return Faces(
        crops, np.asarray(counts, np.intp), np.asarray(sides, np.float64), images, names, found, dict(skipped)
    )


def with_faces(
    sources: Iterable[Source], pool: DecoderPool, skipped: Counter[str], progress: Callable[[int], None]
) -> Iterator[tuple[Source, Decoded]]:
    """Decode images and yield those that have a face; the others are counted in ``skipped``."""
    for item in decode_in_order(sources, pool):
        if item is None:
            continue
        progress(1)
        if item[1].faces:
            yield item
        else:
            skipped[(item[1].reason or Verdict.NO_FACE).value] += 1


def listed(skipped: Mapping[str, int], none: str = "no image listed") -> str:
    """Say what was skipped, the most frequent reason first."""
    most_first = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n} {reason}" for reason, n in most_first) or none


def _crop_side(face: Face, decoded: Decoded, settings: DecoderSettings) -> float:
    size = decoded.width or 0, decoded.height or 0
    rule = settings.picture_rule
    if face.subject == "image" and rule.view != "square":
        return float(min(rule.tile, *size))
    return crop_side(face.box, *size, settings.face_rule)
