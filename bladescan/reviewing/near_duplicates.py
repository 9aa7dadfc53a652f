"""Which faces are of one picture: its copies, scaled or compressed anew. It reads no file.

Two pictures are near-duplicates if their perceptual hashes differ in at most `MOST_BITS` bits; their faces
are the same where the boxes lie in the same place and the crops look alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bladescan.base.places import Place, are_one
from bladescan.images.likeness import N_BITS, distance

MOST_BITS = 4
"""Copies at half the size or as JPEG 60 differ in 2 bits, pictures of different people in 8 or more."""

_MOST_CROP_BITS = 12
_MOST_COMPARED = 400
"""Leaders of one band: a hundred thousand cards of one layout must not be compared each with each."""
_N_BANDS = MOST_BITS + 1
_BAND = -(-N_BITS // _N_BANDS)


class Look(NamedTuple):
    """What is compared of one face, or of a picture without one.

    Attributes:
        picture: perceptual hash of the picture, None if it could not be seen.
        crop: perceptual hash of the crop, None without a face.
        place: of the box, None if the picture is the face or has none.
        content: what only equal files share.
    """

    picture: int | None
    crop: int | None
    place: Place | None
    content: tuple[str, int]


class Leaders:
    """The first of each group of near-duplicates, so that a later one finds its own."""

    def __init__(self) -> None:
        self._equal: dict[tuple[str, int], int] = {}
        self._bands: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        self._looks: dict[int, Look] = {}

    def leader(self, index: int, look: Look) -> int:
        """Find the leader of a face: one given earlier, or itself.

        Args:
            index: of the face.
            look: what is compared.
        """
        known = self._equal.get(look.content) if look.content[0] else None
        if known is None:
            known = self.near(look)
        if known is not None:
            self._equal.setdefault(look.content, known)
            return known
        self.add(index, look)
        return index

    def add(self, index: int, look: Look) -> None:
        """Make a face one that later ones may be copies of."""
        self._equal.setdefault(look.content, index)
        if look.picture is not None:
            self._looks[index] = look
            for band in _bands(look.picture):
                if len(self._bands[band]) < _MOST_COMPARED:
                    self._bands[band].append(index)

    def near(self, look: Look) -> int | None:
        """Find one that a face looks like, None if there is none."""
        if look.picture is None:
            return None
        # Of hashes that differ in fewer bits than there are bands, one band at least is equal.
        for band in _bands(look.picture):
            for index in self._bands.get(band, ()):
                other = self._looks[index]
                if other.picture is not None and distance(look.picture, other.picture) <= MOST_BITS:
                    if _same_face(look, other):
                        return index
        return None


def leaders(looks: Iterable[Look]) -> Iterator[int]:
    """Yield for each face, in order, the index of the first that it is a copy of, or its own."""
    found = Leaders()
    for index, look in enumerate(looks):
        yield found.leader(index, look)


def _bands(picture: int) -> Iterator[tuple[int, int]]:
    for band in range(_N_BANDS):
        yield band, picture >> (band * _BAND) & ((1 << _BAND) - 1)


def _same_face(one: Look, other: Look) -> bool:
    if one.crop is None or other.crop is None:
        return one.crop is other.crop
    if distance(one.crop, other.crop) > _MOST_CROP_BITS:
        return False
    return are_one(one.place, other.place)
