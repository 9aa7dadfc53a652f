"""Do we read the same EXIF tags as exiftool? One Markdown table, and every disagreement.

    python -m benchmarks.quality.exif_agreement DIR...

Needs exiftool (Debian: libimage-exiftool-perl), which is run once over all files and prints raw numbers. The
meaning of those numbers is written out here a second time, from exiftool's tag tables, so that a mistake in
`bladescan.exif.tags` is not shared. A value is "unusable" if exiftool prints one that we must not believe:
zero, ``undef``, ``inf``, 65535 for ISO, a code without a class; it counts as missing.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tables import parser, table
from bladescan.exif.tags import EXIF_TASKS, LIMITS, read_exif

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif", ".tif", ".tiff"}
UNUSABLE = "unusable"
Row = Mapping[str, Any]
Value = float | str | None

ISO = ("ISO", "RecommendedExposureIndex", "StandardOutputSensitivity", "ISOSpeed")
CANON_METERING = {1: "spot", 2: "average", 3: "evaluative", 4: "partial", 5: "centre-weighted"}
METERING = {
    1: "average",
    2: "centre-weighted",
    3: "spot",
    4: "multi-spot",
    5: "multi-segment",
    6: "partial",
    255: "others",
}
CANON_EXPOSURE = {
    0: "easy-shooting",
    1: "program",
    2: "shutter-priority",
    3: "aperture-priority",
    4: "manual",
    7: "manual",
}
EXPOSURE = {0: "auto", 1: "manual", 2: "auto-bracketing"}
WHITE_BALANCE = {0: "auto", 1: "manual"}
PROGRAM = {
    1: "manual control",
    2: "normal program",
    3: "aperture priority",
    4: "shutter priority",
    7: "portrait mode",
    8: "landscape mode",
}
MAKES = ("Nikon", "Apple", "FUJI", "Canon", "Samsung", "Sony", "Panasonic", "Nokia", "Pentax", "Asahi")
RENAMED = {"FUJI": "FUJIFILM", "Asahi": "Pentax"}


class Tally(NamedTuple):
    """What the two readers came to for one tag, by file.

    Attributes:
        agree: files for which both have the same value.
        disagree: (file, ours, exiftool's).
        only_ours: (file, ours, None).
        only_exiftool: (file, None, exiftool's).
        unusable: files whose value neither believes or has a class for.
    """

    agree: list[str]
    disagree: list[tuple[str, Value, Value]]
    only_ours: list[tuple[str, Value, Value]]
    only_exiftool: list[tuple[str, Value, Value]]
    unusable: list[str]


def standard(row: Row, name: str) -> Any:
    return row.get(f"ExifIFD:{name}", row.get(f"IFD0:{name}"))


def number(tag: str, candidates: Iterable[Any]) -> Value:
    """The first that can be believed; `UNUSABLE` if there are only others."""
    low, high = LIMITS[tag]
    found: Value = None
    for candidate in candidates:
        if candidate is None:
            continue
        try:
            value = float(str(candidate).split()[0])
        except ValueError:
            value = 0.0
        if low <= value <= high and not (tag == "iso_speed" and value == 65535):
            return value
        found = UNUSABLE
    return found


def category(codes: Mapping[int, str], value: Any) -> Value:
    return None if value is None else codes.get(value, UNUSABLE)


def make(row: Row) -> Value:
    written = str(standard(row, "Make") or "").strip()
    if written in ("", "MAKER NAME"):
        return UNUSABLE if written else None
    found = [name for name in MAKES if name.lower() in written.lower()]
    return RENAMED.get(found[0], found[0]) if found else "others"


def metering(row: Row) -> Value:
    return CANON_METERING.get(row.get("Canon:MeteringMode", -1)) or category(
        METERING, standard(row, "MeteringMode")
    )


def exposure(row: Row) -> Value:
    plain = category(EXPOSURE, standard(row, "ExposureMode"))
    canon = CANON_EXPOSURE.get(row.get("Canon:CanonExposureMode", -1))
    return plain if plain == "auto-bracketing" else canon or plain


def apex_aperture(row: Row) -> float | None:
    value = standard(row, "ApertureValue")
    return None if value is None or float(value) == 1.0 else float(f"{float(value):.2g}")


EXPECTED: dict[str, Callable[[Row], Value]] = {
    "iso_speed": lambda row: number("iso_speed", (standard(row, name) for name in ISO)),
    "aperture": lambda row: number("aperture", (standard(row, "FNumber"), apex_aperture(row))),
    "exposure_time": lambda row: number(
        "exposure_time",
        (standard(row, "ExposureTime"), None if (t := standard(row, "ShutterSpeedValue")) == 1 else t),
    ),
    "focal_length": lambda row: number("focal_length", (standard(row, "FocalLength"),)),
    "make": make,
    "metering_mode": metering,
    "exposure_mode": exposure,
    "white_balance_mode": lambda row: category(WHITE_BALANCE, standard(row, "WhiteBalance")),
    "exposure_program": lambda row: category(PROGRAM, standard(row, "ExposureProgram")),
}
TAGS = (
    *ISO,
    *("FNumber", "ApertureValue", "ExposureTime", "ShutterSpeedValue", "FocalLength", "Make"),
    *("MeteringMode", "ExposureMode", "WhiteBalance", "ExposureProgram"),
)


def ask_exiftool(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Raw numbers of all files, with their groups."""
    wanted = [f"-{group}:{tag}" for group in ("ExifIFD", "IFD0") for tag in TAGS]
    wanted += ["-Canon:MeteringMode", "-Canon:CanonExposureMode"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listing:
        listing.write("\n".join(str(path) for path in paths))
        listing.flush()
        command = ["exiftool", "-q", "-q", "-j", "-n", "-G1", *wanted, "-@", listing.name]
        answer = subprocess.run(command, capture_output=True, check=False, text=True).stdout
    rows: list[dict[str, Any]] = json.loads(answer or "[]")
    return rows


def same(ours: Value, theirs: Value) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        return abs(ours - theirs) <= 1e-6 * theirs
    return ours == theirs


def compare(paths: Iterable[Path]) -> dict[str, Tally]:
    tallies = {tag: Tally([], [], [], [], []) for tag in EXIF_TASKS}
    for row in ask_exiftool(paths):
        path = row["SourceFile"]
        tags = read_exif(Path(path).read_bytes()).tags
        for tag, tally in tallies.items():
            sort_in(tally, path, tags.get(tag), EXPECTED[tag](row))
    return tallies


def sort_in(tally: Tally, path: str, ours: Value, theirs: Value) -> None:
    if theirs == UNUSABLE and ours is None:
        tally.unusable.append(path)
        return
    theirs = None if theirs == UNUSABLE else theirs
    if ours is not None and theirs is not None:
        if same(ours, theirs):
            tally.agree.append(path)
        else:
            tally.disagree.append((path, ours, theirs))
    elif ours is not None:
        tally.only_ours.append((path, ours, None))
    elif theirs is not None:
        tally.only_exiftool.append((path, None, theirs))


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__spec__, __doc__)
    options.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="of photographs")
    folders = options.parse_args(argv).folders
    paths = [p for folder in folders for p in sorted(folder.rglob("*")) if p.suffix.lower() in SUFFIXES]
    tallies = compare(paths)
    header = ["tag", "both", "agree", "disagree", "only ours", "only exiftool", "unusable"]
    rows = [[tag, len(tally.agree) + len(tally.disagree), *map(len, tally)] for tag, tally in tallies.items()]
    print(f"{len(paths)} files\n\n{table(header, rows)}")
    for tag, tally in tallies.items():
        for path, mine, other in (*tally.disagree, *tally.only_ours, *tally.only_exiftool):
            print(f"{tag}: {path}: ours {mine}, exiftool {other}")


if __name__ == "__main__":
    main()
