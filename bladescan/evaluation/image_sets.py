"""The images of an evaluation by set: their faces cut out, and the facts of their files."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bladescan.base.errors import DataError, ImageError
from bladescan.evaluation.baselines import (
    MIN_FILES,
    FileFacts,
)
from bladescan.evaluation.degradations import (
    MATCH_QUALITY,
    match,
    match_side,
)
from bladescan.evaluation.report import (
    CropMatch,
)
from bladescan.exif.tags import read_exif
from bladescan.images.files import read_file
from bladescan.images.limits import Limits
from bladescan.scanning.cut_faces import Faces, cut_faces, listed
from bladescan.scanning.decoder_process import Decoded, DecoderSettings, Face, Ready
from bladescan.scanning.decoders import decoder_pool
from bladescan.sources.source import Source

JPEG_FORMATS = ("JPEG", "MPO")


class ImageSets(NamedTuple):
    """The faces cut out of the images, matched if that was asked, and the facts of their files.

    Attributes:
        sets: faces by set.
        sides: by set, of every face in pixels of its image.
        facts: by set, of every image with a face.
        files: by set, a number for the file of every face; copies of a file share it.
        ready: what the face finder said of itself.
        match: how the crops were made alike; None where they are as found.
    """

    sets: dict[str, Faces]
    sides: dict[str, NDArray[np.float64]]
    facts: dict[str, list[FileFacts]]
    files: dict[str, NDArray[np.intp]]
    ready: Ready
    match: CropMatch | None


def cut_image_sets(
    sources: Mapping[str, Iterable[Source]],
    decoder: DecoderSettings,
    n_decoders: int,
    *,
    progress: Callable[[int], None] = lambda n: None,
) -> ImageSets:
    """Cut every face out of every image of every set.

    Args:
        sources: images by set.
        decoder: limits, face finder and crop rule.
        n_decoders: decoder processes.
        progress: called with the number of images just done.

    Raises:
        DataError: too few different images with a face in a set.
    """
    sets, facts = {}, {}
    with decoder_pool(n_decoders, decoder) as pool:
        ready = pool.start()
        for name, images in sources.items():
            sets[name] = cut_faces(images, pool, progress=progress)
            facts[name] = _facts(sets[name], decoder.limits)
            _check_enough(name, sets[name], facts[name])
    sides = {name: _face_sides(faces) for name, faces in sets.items()}
    files = {name: file_codes(facts[name])[faces.images] for name, faces in sets.items()}
    return ImageSets(sets, sides, facts, files, ready, None)


def match_crops(images: ImageSets) -> ImageSets:
    """Make the crops of all sets alike in size and compression, in their place: there may be gigabytes."""
    side = match_side(faces.crop_sides for faces in images.sets.values())
    for faces in images.sets.values():
        match(faces.crops, side, MATCH_QUALITY, out=faces.crops)
    return images._replace(match=CropMatch(side, MATCH_QUALITY))


def _check_enough(name: str, faces: Faces, facts: Iterable[FileFacts]) -> None:
    n_different = len({fact.digest for fact in facts})
    if n_different < MIN_FILES:
        skipped = f" (skipped: {listed(faces.skipped)})" if faces.skipped else ""
        raise DataError(
            f"{name}: {n_different} different images with a face{skipped}; "
            f"an evaluation needs at least {MIN_FILES} in every set"
        )


def _face_sides(faces: Faces) -> NDArray[np.float64]:
    """Measure the side of every face, of the crop where no finder said where it is, and of whole pictures."""
    found = [(face, decoded) for decoded in faces.decoded for face in decoded.faces]
    return np.asarray([_side(*one, crop) for one, crop in zip(found, faces.crop_sides.tolist(), strict=True)])


def _side(face: Face, decoded: Decoded, crop_side: float) -> float:
    if face.subject == "image":
        return float(min(decoded.width or 0, decoded.height or 0))
    return crop_side if face.box is None else face.box.side


def file_codes(facts: Iterable[FileFacts]) -> NDArray[np.intp]:
    """Give each file a number by its content, ``[n]``: copies of a file share one."""
    places: dict[bytes, int] = {}
    return np.asarray([places.setdefault(fact.digest, len(places)) for fact in facts], np.intp)


def _facts(faces: Faces, limits: Limits) -> list[FileFacts]:
    return [_file_facts(name, one, limits) for name, one in zip(faces.names, faces.decoded, strict=True)]


def _file_facts(name: str, decoded: Decoded, limits: Limits) -> FileFacts:
    try:
        data = read_file(name, limits, listed=True)
    except ImageError as exc:
        raise DataError(f"{name}: {exc}; it could be read when its faces were cut out") from exc
    make = read_exif(data).tags.get("make")
    return FileFacts(
        n_bytes=len(data),
        width=decoded.width or 1,
        height=decoded.height or 1,
        format=decoded.format or "",
        quantisation=_quantisation(data) if decoded.format in JPEG_FORMATS else (),
        make=None if make is None else str(make),
        digest=hashlib.blake2b(data, digest_size=16).digest(),
    )


def _quantisation(data: bytes) -> tuple[float, ...]:
    """Average each quantisation table of a JPEG that was decoded before; empty where Pillow finds none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                tables = getattr(image, "quantization", {})
        except Exception:  # Pillow lets a dozen unrelated types out of a broken header
            return ()
    return tuple(float(np.mean(table)) for _, table in sorted(tables.items()))
