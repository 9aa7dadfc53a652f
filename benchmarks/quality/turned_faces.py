"""Measure what the search finds of faces that lie or stand on their head, and in very wide or high pictures.

Run:  OMP_NUM_THREADS=1 BLADESCAN_DATA=... python -m benchmarks.quality.turned_faces [--every 1]

Each portrait is turned by 90, 180 and 270 degrees. Its truth is what the finder finds in the portrait as it
is, turned with it. The scores of ``bladescan.faces.directions`` were chosen on other files of the same pools.
"Before" is the search for upright faces alone; both searches see each picture in turn, and their times are
those of the core, which other work of the machine disturbs least.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.quality.face_finders import SCENES, SCENES_WITH_PEOPLE, SUFFIXES, files, read
from benchmarks.tables import parser, table
from bladescan.base.errors import ImageError
from bladescan.base.records import FaceBox
from bladescan.faces.directions import TURNED
from bladescan.faces.mtcnn import Mtcnn
from bladescan.faces.pictures import Size, turned_box, upright
from bladescan.faces.yunet import YuNet
from bladescan.images.decoding import decode_image
from bladescan.images.limits import Limits

REPORTED = {
    "faces/*.jpg": slice(0, None, 2),
    "photographs/faces/*": slice(1, None, 6),
    "evaluation/photographic/**/*": slice(0, None, 2),
    "evaluation/ai-generated/**/*": slice(1, None, 2),
}
"""Files of each pool, sorted by name, on which no score was chosen."""
HOSTILE_SIDE = 32
HOSTILE_LIMITS = Limits(max_pixels=20_000_000)
TURNED_COLUMNS = "finder,turned by,found before,found now,of,turn right,overlap: median,1 %".split(",")
COST_COLUMNS = "finder,pictures,searched,with a find before,now,time without a face: median,in all".split(",")
ELONGATED_COLUMNS = ("finder", "10,000 x 606: upright", "lying", "606 x 10,000: upright", "lying")
ELONGATED = ((10_000, 606), (606, 10_000))
PASTED_SIDE = 360
"""Long side in pixels of a portrait in an elongated picture: its face is about 212 pixels high."""
CANVAS = (1280, 960)
SMALL_SHARES = (12, 16, 20, 25)
"""The long side of a picture, in faces."""
FACE_TO_PORTRAIT = 1.7

Finder = YuNet | Mtcnn
Found = list[FaceBox]


class Search(NamedTuple):
    """What one search found of one picture, and in how many seconds of its core."""

    found: Found
    seconds: float


class Turned(NamedTuple):
    """One portrait at one rotation.

    Attributes:
        truth: the surest box in the portrait as it is, turned with it; None where there was none.
        before, after: what the search for upright faces and the search all around found.
    """

    rotation: int
    truth: FaceBox | None
    before: Found
    after: Found


def searched(find: Callable[[Image.Image], Found], image: Image.Image) -> Search:
    start = time.thread_time()
    found = find(image)
    return Search(found, time.thread_time() - start)


def portraits(data: Path, every: int) -> list[Path]:
    chosen = []
    for pattern, part in REPORTED.items():
        found = sorted(path for path in data.glob(pattern) if path.suffix.lower() in SUFFIXES)
        chosen += found[part][::every]
    return chosen


def pictures(paths: Iterable[Path]) -> Iterable[Image.Image]:
    for path in paths:
        pixels = read(path)
        if pixels is not None:
            yield Image.fromarray(pixels)


def turned_portraits(finder: Finder, paths: list[Path]) -> list[Turned]:
    rows = []
    for image in pictures(paths):
        found = finder.find(image)
        rows.append(Turned(0, found[0] if found else None, finder._find_upright(image), found))
        for rotation in TURNED:
            picture = upright(image, 360 - rotation)
            truth = turned_box(found[0], picture.size, rotation) if found else None
            rows.append(Turned(rotation, truth, finder._find_upright(picture), finder.find(picture)))
    return rows


def common_share(a: FaceBox, b: FaceBox) -> float:
    """Intersection over union."""
    common = max(0.0, min(a.x1, b.x1) - max(a.x0, b.x0)) * max(0.0, min(a.y1, b.y1) - max(a.y0, b.y0))
    areas = [(box.x1 - box.x0) * (box.y1 - box.y0) for box in (a, b)]
    return common / (sum(areas) - common)


def turned_row(name: str, rotation: int, rows: list[Turned]) -> list[object]:
    some = [row for row in rows if row.rotation == rotation]
    pairs = [(row.truth, row.after[0]) for row in some if row.truth and row.after]
    shares = [common_share(truth, best) for truth, best in pairs]
    right = sum(best.rotation == rotation for _, best in pairs)
    spread = [f"{share:.2f}" for share in np.percentile(shares, [50, 1])]
    counts = [sum(bool(row.before) for row in some), sum(bool(row.after) for row in some)]
    return [name, rotation, *counts, len(some), right, *spread]


def without_faces(data: Path) -> dict[str, list[Image.Image]]:
    scenes = [path for path in files(data / SCENES, 1) if not path.name.startswith(SCENES_WITH_PEOPLE)]
    hostile = sorted(path for path in (data / "hostile").rglob("*") if path.is_file())
    return {"scenes": list(pictures(scenes)), "hostile": list(hostile_pictures(hostile))}


def hostile_pictures(paths: Iterable[Path]) -> Iterable[Image.Image]:
    for path in paths:
        try:
            frames = decode_image(path.read_bytes(), HOSTILE_LIMITS).pictures
            picture = next(iter(frames))[1]
        except (ImageError, StopIteration):
            continue
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        if max(image.size) >= HOSTILE_SIDE:
            yield image


def cost_row(name: str, pool: str, finder: Finder, images: list[Image.Image]) -> list[object]:
    """Count finds and compare times, picture by picture; pictures with an upright face are left out."""
    pairs = [(searched(finder._find_upright, image), searched(finder.find, image)) for image in images]
    empty = [(before, after) for before, after in pairs if not before.found]
    ratios = [after.seconds / before.seconds for before, after in empty]
    total = sum(after.seconds for _, after in empty) / sum(before.seconds for before, _ in empty)
    finds = [sum(bool(search.found) for search in column) for column in zip(*pairs, strict=True)]
    return [name, pool, len(pairs), *finds, f"{np.median(ratios):.2f}", f"{total:.2f}"]


def with_face_ratio(finder: Finder, paths: list[Path]) -> float:
    pairs = [(searched(finder._find_upright, i), searched(finder.find, i)) for i in pictures(paths)]
    return sum(after.seconds for _, after in pairs) / sum(before.seconds for before, _ in pairs)


def elongated_row(name: str, finder: Finder, paths: list[Path]) -> list[str]:
    """Paste portraits, upright and lying, into very wide and very high pictures."""
    cells = [name]
    for size in ELONGATED:
        for rotation in (0, 90):
            found = [finder.find(pasted(image, size, rotation, PASTED_SIDE)) for image in pictures(paths)]
            cells.append(f"{sum(bool(faces) for faces in found)} / {len(found)}")
    return cells


def pasted(portrait: Image.Image, size: Size, rotation: int, side: int) -> Image.Image:
    """Paste a portrait, turned and with a long side in pixels, into a plain picture."""
    scale = side / max(portrait.size)
    small = portrait.resize((round(portrait.width * scale), round(portrait.height * scale)))
    canvas = Image.new("RGB", size, (90, 110, 90))
    canvas.paste(upright(small, -rotation % 360), (round(0.37 * size[0]), round(0.15 * size[1])))
    return canvas


def small_row(name: str, finder: Finder, paths: list[Path]) -> list[str]:
    """Paste portraits, upright and lying, into pictures of which their faces span a small share."""
    cells = [name]
    for share in SMALL_SHARES:
        side = round(FACE_TO_PORTRAIT * CANVAS[0] / share)
        counts = [
            sum(bool(finder.find(pasted(image, CANVAS, rotation, side))) for image in pictures(paths))
            for rotation in (0, 90)
        ]
        cells.append(f"{counts[0]}, {counts[1]}")
    return cells


def main() -> None:
    arguments = parser(__spec__, __doc__)
    arguments.add_argument("--every", type=int, default=1, help="take every n-th of the files with a face")
    arguments.add_argument("--finders", nargs="+", default=["yunet", "mtcnn"])
    options = arguments.parse_args()
    data = Path(os.environ["BLADESCAN_DATA"])
    paths = portraits(data, options.every)
    make: dict[str, type[Finder]] = {"yunet": YuNet, "mtcnn": Mtcnn}
    finders = {name: make[name]() for name in options.finders}
    measured = {name: turned_portraits(finder, paths) for name, finder in finders.items()}
    rows = [turned_row(name, turn, some) for name, some in measured.items() for turn in (0, *TURNED)]
    print(table(TURNED_COLUMNS, rows) + "\n", flush=True)
    pools = without_faces(data)
    rows = [cost_row(name, pool, finders[name], some) for name in finders for pool, some in pools.items()]
    print(table(COST_COLUMNS, rows) + "\n", flush=True)
    for name, finder in finders.items():
        print(f"{name}: time with a face, in all: {with_face_ratio(finder, paths):.2f}\n", flush=True)
    few = files(data / "faces", 1)[::48]
    print(table(ELONGATED_COLUMNS, [elongated_row(*item, few) for item in finders.items()]) + "\n")
    columns = ["finder", *(f"1/{share} of {len(few)}: upright, lying" for share in SMALL_SHARES)]
    print(table(columns, [small_row(*item, few) for item in finders.items()]))


if __name__ == "__main__":
    main()
