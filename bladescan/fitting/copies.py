"""Images that are there twice: equal files, and pictures that look alike. A copy counts for nothing new.

Pictures look alike if their perceptual hashes (`bladescan.images.likeness`) differ in few bits, as those of
one picture in two sizes or two qualities do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from bladescan.base.text import counted
from bladescan.images.likeness import N_BITS, distance
from bladescan.scanning.decoder_process import Decoded
from bladescan.sources.source import Source

MOST_BITS = 4
_N_BANDS = MOST_BITS + 1
_BAND = -(-N_BITS // _N_BANDS)
EXACT, NEAR = "copy", "near-copy"
"""Among the reasons for which images are skipped."""


class Identity(NamedTuple):
    """What tells an image from others.

    Attributes:
        sha256: of the file.
        likeness: perceptual hash of the picture, None if it could not be seen.
    """

    sha256: bytes
    likeness: int | None


class Copy(NamedTuple):
    """An image that is there twice.

    Attributes:
        name: of the image.
        of: name of the one seen before.
        kind: `EXACT` or `NEAR`.
    """

    name: str
    of: str
    kind: str


class SeenImages:
    """Images seen before, by their bytes and by how they look."""

    def __init__(self) -> None:
        self._equal: dict[bytes, str] = {}
        self._bands: defaultdict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)

    def find(self, name: str, image: Identity) -> Copy | None:
        """Find an image that this one is a copy of, None if there is none; ``name`` is for people."""
        if (of := self._equal.get(image.sha256)) is not None:
            return Copy(name, of, EXACT)
        # A picture without structure has no likeness that could tell it from others.
        if image.likeness:
            for band in _bands(image.likeness):
                for likeness, of in self._bands.get(band, ()):
                    if distance(likeness, image.likeness) <= MOST_BITS:
                        return Copy(name, of, NEAR)
        return None

    def add(self, name: str, image: Identity) -> None:
        """Remember an image."""
        self._equal[image.sha256] = name
        if image.likeness:
            for band in _bands(image.likeness):
                self._bands[band].append((image.likeness, name))


def _bands(likeness: int) -> Iterator[tuple[int, int]]:
    # Of hashes that differ in fewer bits than there are bands, one band at least is equal.
    for band in range(_N_BANDS):
        yield band, likeness >> (band * _BAND) & ((1 << _BAND) - 1)


@dataclass(slots=True)
class CopyCount:
    """Copies found so far, with the first of each kind to show.

    Attributes:
        exact, near: how many.
        first: the first of each kind.
    """

    exact: int = 0
    near: int = 0
    first: tuple[Copy, ...] = ()

    def add(self, copy: Copy) -> None:
        """Count one."""
        if not (self.exact if copy.kind == EXACT else self.near):
            self.first = (*self.first, copy)
        self.exact += copy.kind == EXACT
        self.near += copy.kind == NEAR

    def __bool__(self) -> bool:
        return bool(self.first)

    def told(self) -> str:
        """Say how many there are, with an example of each kind."""
        found = [counted(self.exact, "equal file")] if self.exact else []
        found += [f"{self.near} that look{'s' if self.near == 1 else ''} alike"] if self.near else []
        examples = "; ".join(f"{copy.name} and {copy.of}" for copy in self.first)
        return f"{' and '.join(found)} (for example {examples})"


def without_copies(
    found: Iterable[tuple[Source, Decoded]], copies: CopyCount, skipped: Counter[str]
) -> Iterator[tuple[Source, Decoded]]:
    """Yield images decoded with ``identify``; of copies only the first, the others are counted."""
    known = SeenImages()
    for source, decoded in found:
        identity = Identity(decoded.sha256, decoded.likeness)
        if (copy := known.find(source.name, identity)) is not None:
            copies.add(copy)
            skipped[copy.kind] += 1
            continue
        known.add(source.name, identity)
        yield source, decoded
