"""Compare the five landmarks of yunet with those of MTCNN's last network, as training needs them.

    BLADESCAN_DATA=... python -m benchmarks.quality.landmarks [--every 3] [--sheet sheet.png]

The network beside this file is ``yunet.onnx`` with the landmark head of the same library, made in the same
way: see ``bladescan/faces/NOTICE.md``.

Nobody has marked the faces by hand. Each source is therefore compared with itself on the mirrored picture,
where whatever moves is its own error, and with the other. Distances are means over the five points, as shares
of the distance between the eyes; regions are those that the manipulations of training flip. The sheet shows
the faces that are least alike, for the eye to judge: yunet green, MTCNN red.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.quality.face_finders import files, read
from benchmarks.tables import heading, parser, row
from bladescan.base.records import FaceBox
from bladescan.faces.mtcnn import landmarks_in
from bladescan.faces.pictures import Pixels
from bladescan.faces.yunet import YuNet
from bladescan.pretext.manipulations import Ellipse, eye_region, mouth_region, nose_region
from bladescan.runtimes.onnx_session import open_session

Points = NDArray[np.float32]
"""``[5, 2]``: left eye, right eye, nose tip, left and right mouth corner, as seen."""

NETWORK = Path(__file__).with_name("yunet_with_landmarks.onnx")
POOLS = ("faces", "photographs/faces", "evaluation/photographic")
REGIONS: dict[str, Callable[[Points], Ellipse]] = {
    "mouth": mouth_region,
    "left eye": lambda points: eye_region(points, 0),
    "right eye": lambda points: eye_region(points, 1),
    "nose": nose_region,
}
CONTEXT, SIDE = 2.0, 320
"""yunet looks at a square of so many face sides, at so many pixels: the face is as large as it knows best."""


class YuNetLandmarks:
    """YuNet's landmark head, which bladescan itself leaves out."""

    def __init__(self) -> None:
        self._session = open_session(NETWORK, threads=1)

    def __call__(self, image: Pixels, box: FaceBox) -> Points | None:
        """Find the landmarks of the surest cell in a square around the box."""
        side = CONTEXT * box.side
        x0, y0 = (box.x0 + box.x1 - side) / 2, (box.y0 + box.y1 - side) / 2
        square = (round(x0), round(y0), round(x0 + side), round(y0 + side))
        patch = Image.fromarray(image).crop(square).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        pixels = np.asarray(patch, np.float32).transpose(2, 0, 1)[None]
        points = max((self._surest(pixels, stride) for stride in (8, 16, 32)), key=lambda found: found[0])[1]
        return (points * (square[2] - square[0]) / SIDE + square[:2]).astype(np.float32)

    def _surest(self, pixels: NDArray[np.float32], stride: int) -> tuple[float, Points]:
        heads = [f"{head}_{stride}" for head in ("class", "object", "landmarks")]
        classes, objects, landmarks = (x[0] for x in self._session.run(heads, {"image": pixels}))
        scores = 1 / ((1 + np.exp(-classes[0])) * (1 + np.exp(-objects[0])))
        row, column = np.unravel_index(int(scores.argmax()), scores.shape)
        points = landmarks[:, row, column].reshape(5, 2)
        return float(scores.max()), (points + np.array([column, row], np.float32)) * np.float32(stride)


def mtcnn_landmarks(image: Pixels, box: FaceBox) -> Points | None:
    found = landmarks_in(image, box)
    return None if found is None else np.array(found, np.float32)


Source = Callable[[Pixels, FaceBox], Points | None]


def mirrored(source: Source, image: Pixels, box: FaceBox) -> Points | None:
    """What a source finds in the mirrored picture, mirrored back."""
    width = image.shape[1]
    other = FaceBox(width - box.x1, box.y0, width - box.x0, box.y1, box.score)
    found = source(np.ascontiguousarray(image[:, ::-1]), other)
    return None if found is None else (np.array([width, 0]) + found * [-1, 1])[[1, 0, 2, 4, 3]].astype("f4")


def distance(a: Points, b: Points) -> float:
    eyes = max(float(np.linalg.norm(points[1] - points[0])) for points in (a, b))
    return float(np.linalg.norm(a - b, axis=1).mean()) / max(eyes, 1.0)


def overlap(a: Ellipse, b: Ellipse) -> float:
    """Intersection over union, counted on a grid of 100 x 100 points."""
    reach = max(a.half_width, b.half_width), max(a.half_height, b.half_height)
    x = np.linspace(min(a.x, b.x) - reach[0], max(a.x, b.x) + reach[0], 100)[None, :]
    y = np.linspace(min(a.y, b.y) - reach[1], max(a.y, b.y) + reach[1], 100)[:, None]
    inside = [
        ((x - one.x) / one.half_width) ** 2 + ((y - one.y) / one.half_height) ** 2 <= 1 for one in (a, b)
    ]
    return float((inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum())


def cells(title: str, pairs: list[tuple[Points, Points]]) -> list[object]:
    distances = [distance(a, b) for a, b in pairs]
    shares = {name: np.median([overlap(r(a), r(b)) for a, b in pairs]) for name, r in REGIONS.items()}
    found = [f"{value:.3f}" for value in np.percentile(distances, [50, 90, 99])]
    found += [f"{share:.2f}" for share in shares.values()]
    return [title, len(pairs), *found]


def draw_sheet(path: Path, faces: list[tuple[Pixels, FaceBox, dict[str, Points]]], tile: int = 220) -> None:
    """Draw the faces in rows of eight."""
    sheet = Image.new("RGB", (8 * tile, -(-len(faces) // 8) * tile))
    for i, (image, box, found) in enumerate(faces):
        side = 1.2 * box.side
        x0, y0 = (box.x0 + box.x1 - side) / 2, (box.y0 + box.y1 - side) / 2
        square = (round(x0), round(y0), round(x0 + side), round(y0 + side))
        picture = Image.fromarray(image).crop(square).resize((tile, tile))
        pen = ImageDraw.Draw(picture)
        for name, colour in (("yunet", (0, 255, 0)), ("mtcnn", (255, 0, 0))):
            for x, y in (found[name] - [x0, y0]) * tile / side:
                pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        sheet.paste(picture, (i % 8 * tile, i // 8 * tile))
    sheet.save(path)


def main(argv: Sequence[str] | None = None) -> None:
    made = parser(__spec__, __doc__)
    made.add_argument("--every", type=int, default=3, help="take every n-th file")
    made.add_argument("--sheet", type=Path, help="draw the 40 faces that are least alike")
    options = made.parse_args(argv)
    data, finder = Path(os.environ["BLADESCAN_DATA"]), YuNet()
    sources: dict[str, Source] = {"yunet": YuNetLandmarks(), "mtcnn": mtcnn_landmarks}
    faces = []
    for path in (path for pool in POOLS for path in files(data / pool, options.every)):
        image = read(path)
        boxes = [] if image is None else finder.find(image)
        if image is not None and boxes:
            box = max(boxes, key=lambda box: box.side)
            seen = {name: source(image, box) for name, source in sources.items()}
            seen |= {f"{name}, mirrored": mirrored(s, image, box) for name, s in sources.items()}
            faces.append((image, box, {name: points for name, points in seen.items() if points is not None}))
    print(f"{len(faces)} faces; with landmarks of mtcnn: {sum('mtcnn' in found for *_, found in faces)}")
    print(heading("compared", "faces", "median", "90 %", "99 %", *REGIONS))
    for a, b in [(n, f"{n}, mirrored") for n in sources] + list(combinations(sources, 2)):
        pairs = [(found[a], found[b]) for *_, found in faces if {a, b} <= found.keys()]
        print(row(*cells(f"{a} and {b}", pairs)))
    if options.sheet:
        both = [face for face in faces if set(sources) <= face[2].keys()]
        both.sort(key=lambda face: -distance(face[2]["yunet"], face[2]["mtcnn"]))
        draw_sheet(options.sheet, both[:40])


if __name__ == "__main__":
    main()
