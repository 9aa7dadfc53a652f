"""What --stability does to false alarms and misses, whether it foresees flips, and what it costs.

    BLADESCAN_DATA=FOLDER python -m benchmarks.quality.stability [--model FILE] [--at-most N] [--head HEAD]

The photographs and AI-generated faces of the evaluation are scanned with and without a look at views. Then
each picture is shipped on as none of the views was (70% of its size, JPEG 80), and scanned again: a verdict
that flips should have been unsure.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks.quality.pictures import Groups, collect
from benchmarks.tables import parser, percent, table
from bladescan.base.records import FaceVerdict, ImageRecord, Verdict
from bladescan.detectors.calibration import clopper_pearson
from bladescan.scanning.scan_options import Decision, ScanOptions
from bladescan.scanning.scanner import Scanner
from bladescan.scanning.stability import LIMIT, agreement, is_near

LIMITS = (0.5, LIMIT, 1.0)
SCALE, QUALITY = 0.7, 80


@dataclass(frozen=True)
class Scanned:
    """One group of pictures, scanned.

    Attributes:
        records: with views.
        again: verdicts after shipping on, by name of the picture; only of pictures with one face each time.
        rate: of false alarms.
    """

    records: list[ImageRecord]
    again: dict[str, Verdict]
    rate: float

    def faces(self) -> list[FaceVerdict]:
        """All faces."""
        return [face for record in self.records for face in record.faces]


def scan_group(
    files: Iterable[Path], looking: Scanner, plain: Scanner, folder: Path
) -> tuple[Scanned, float, float]:
    """Scan with and without views; also the seconds of both."""
    paths = [str(path) for path in files]
    started = time.perf_counter()
    plain_records = list(plain.scan(paths))
    between = time.perf_counter()
    records = list(looking.scan(paths))
    seconds = between - started, time.perf_counter() - between
    assert [len(r.faces) for r in records] == [len(r.faces) for r in plain_records]
    shipped = {str(ship_on(Path(path), folder / f"{i}.jpg")): path for i, path in enumerate(paths)}
    again = {shipped[r.source]: r.faces[0].verdict for r in plain.scan(list(shipped)) if len(r.faces) == 1}
    return Scanned(records, again, looking.settings.false_alarm), *seconds


def ship_on(path: Path, to: Path) -> Path:
    """Write a picture smaller and as JPEG."""
    with Image.open(path) as image:
        size = [max(1, round(side * SCALE)) for side in image.size]
        image.convert("RGB").resize((size[0], size[1]), Image.Resampling.LANCZOS).save(
            to, quality=QUALITY, exif=image.getexif()
        )
    return to


def share(count: int, n: int) -> str:
    """A share in percent with its interval."""
    return percent((count / n, *clopper_pearson(count, n)))


def is_unsure(face: FaceVerdict, limit: float | None, rate: float) -> bool:
    """Whether a face would be unsure at a limit."""
    if limit is None or not face.views or not is_near(face.p_smooth, rate):
        return False
    return agreement(face.p_value, face.views, rate) < limit


def verdict_rows(photographs: Scanned, generated: Scanned) -> list[list[str]]:
    """A row for each limit: flagged and unsure photographs, found, missed and unsure AI-generated faces."""
    cells = []
    for limit in (None, *LIMITS):
        row = ["off" if limit is None else f"{limit:g}"]
        for group in (photographs, generated):
            faces, rate = group.faces(), group.rate
            unsure = sum(is_unsure(face, limit, rate) for face in faces)
            flagged = sum(face.p_value <= rate and not is_unsure(face, limit, rate) for face in faces)
            left = [len(faces) - flagged - unsure] if group is generated else []
            row += [share(count, len(faces)) for count in (flagged, unsure, *left)]
        cells.append(row)
    return cells


def flip_rows(groups: Iterable[Scanned]) -> list[list[str]]:
    """A row for each kind of verdict: how many flip when the picture is shipped on."""
    kinds: dict[str, list[bool]] = {"far from the threshold": [], "near it, sure": [], "near it, unsure": []}
    for group in groups:
        for record in group.records:
            if len(record.faces) != 1 or record.source not in group.again:
                continue
            face = record.faces[0]
            kind = "far from the threshold"
            if face.stability is not None:
                kind = "near it, " + ("unsure" if is_unsure(face, LIMIT, group.rate) else "sure")
            before = face.p_value <= group.rate
            kinds[kind].append(before != (group.again[record.source] is Verdict.AI_GENERATED))
    return [[kind, str(len(f)), share(sum(f), len(f)) if f else "-"] for kind, f in kinds.items()]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parser(__spec__, __doc__)
    options.add_argument("--model", type=Path, metavar="FILE", help="detector; default: the one that ships")
    options.add_argument("--at-most", type=int, metavar="N", help="pictures of each set")
    options.add_argument("--head", default="auto")
    asked = options.parse_args(argv)
    found = collect(Path(os.environ["BLADESCAN_DATA"]), asked.at_most)
    photographs, generated = flat(found.photographic), flat(found.generated)
    decide = Decision(asked.head, stability=LIMIT)
    with (
        tempfile.TemporaryDirectory() as folder,
        Scanner(ScanOptions(asked.model, decision=decide)) as looking,
        Scanner(ScanOptions(asked.model, decision=Decision(asked.head))) as plain,
    ):
        (ours, *first), (theirs, *second) = (
            scan_group(files, looking, plain, Path(folder)) for files in (photographs, generated)
        )
        print(f"{looking.describe()}\n")
    heads = ["limit", "photographs flagged", "unsure", "AI-generated flagged", "unsure", "missed"]
    print(table(heads, verdict_rows(ours, theirs)))
    print()
    print(table(["verdict", "pictures", "flip when shipped on"], flip_rows((ours, theirs))))
    for name, group, seconds in (("photographs", ours, first), ("AI-generated", theirs, second)):
        looked = sum(face.stability is not None for face in group.faces())
        print(
            f"{name}: views of {looked} of {len(group.faces())} faces; "
            f"the scan takes {seconds[1] / seconds[0]:.2f} times as long"
        )


def flat(groups: Groups) -> list[Path]:
    """All files of several groups."""
    return [path for files in groups.values() for path in files]


if __name__ == "__main__":
    main()
