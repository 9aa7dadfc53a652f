"""The verdicts of an earlier scan read back, from any format that holds them; one image at a time.

A file is believed in nothing: what is missing or of another type is an error that names the line.
"""

from __future__ import annotations

import base64
import csv
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from bladescan.base.errors import DataError, MissingDependencyError, UsageError
from bladescan.outputs.formats import SUFFIXES
from bladescan.outputs.run import SCHEMA_VERSION

MOST_CELLS = 32
"""Along a side of a map: a file is believed in nothing."""
_Number = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
_Row = Annotated[tuple[_Number, ...], msgspec.Meta(max_length=MOST_CELLS)]


class ReviewedExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """What the score of a face rests on; see `bladescan.outputs.rows.explanation_fields` for the fields."""

    where: str
    grid: Annotated[tuple[_Row, ...], msgspec.Meta(max_length=MOST_CELLS)]
    region: tuple[_Number, _Number, _Number, _Number]
    fall: _Number
    stability: _Number | None = None
    flips: tuple[str, ...] = ()
    n_photographs: int | None = None
    n_as_suspicious: int | None = None
    n_as_unlikely: int | None = None
    n_as_far: int | None = None


class ReviewedComponent(msgspec.Struct, frozen=True, kw_only=True):
    """What one of several combined scores says of a face; see `bladescan.outputs.rows.component_row`."""

    score: float | None = None
    p_value: float | None = None


class ReviewedFace(msgspec.Struct, frozen=True, kw_only=True):
    """One face of a row, or the picture as a whole; see `bladescan.outputs.rows.face_row` for the fields."""

    face: int
    verdict: str
    frame: int = 0
    x0: float | None = None
    y0: float | None = None
    x1: float | None = None
    y1: float | None = None
    rotation: int | None = None
    head: str | None = None
    score: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    p_smooth: float | None = None
    stability: float | None = None
    log_likelihood: float | None = None
    p_ai_generated: float | None = None
    explanation: ReviewedExplanation | None = None
    subject: str = "face"
    tiles: int | None = None
    decision: str | None = None
    components: dict[str, ReviewedComponent] = {}

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """Corners in pixels, None where the image is the face, or was judged as a whole."""
        corners = (self.x0, self.y0, self.x1, self.y1)
        return None if None in corners else corners  # type: ignore[return-value]


class ReviewedImage(msgspec.Struct, frozen=True, kw_only=True):
    """One image and its faces; see `bladescan.outputs.rows.image_row` for the fields.

    ``path`` has undecodable bytes as surrogate escapes.
    """

    path: str
    verdict: str
    reason: str | None = None
    detail: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    n_frames: int | None = None
    flagged_by: str | None = None
    declared: str | None = None
    declared_by: str | None = None
    declared_tool: str | None = None
    declared_signer: str | None = None
    c2pa_status: str | None = None
    faces: tuple[ReviewedFace, ...] = ()


class ReviewedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of the run; see `bladescan.outputs.run.RunInfo`. A CSV file says nothing."""

    schema_version: int = SCHEMA_VERSION
    version: str = ""
    detector: str = ""
    detector_sha256: str = ""
    face_finder: str = ""
    head: str = ""
    false_alarm: float | None = None
    fdr: float | None = None
    threshold: float | None = None
    started: str = ""


@dataclass(frozen=True, slots=True)
class VerdictFile:
    """An opened file of verdicts.

    Attributes:
        path: of the file.
        run: what made the verdicts, as far as the file says.
        images: to be read once, in the order of the file.
        cautions: why the verdicts are not all there, known once the images are read. A CSV file cannot say.
    """

    path: Path
    run: ReviewedRun
    images: Iterator[ReviewedImage]
    cautions: list[str]


def open_verdicts(path: Path) -> VerdictFile:
    """Open a file of verdicts: CSV, JSON, JSON Lines or Parquet, by its suffix.

    Raises:
        UsageError: there is no such file, or its suffix is none of those.
        DataError: it holds no verdicts, or was written by a newer bladescan; also while images are read.
        MissingDependencyError: Parquet without pyarrow.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: expected verdicts in a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    cautions: list[str] = []
    try:
        run, images = _READERS[SUFFIXES[suffix]](path, cautions)
    except OSError as exc:
        raise DataError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    if run.schema_version > SCHEMA_VERSION:
        raise DataError(
            f"{path}: written by a newer bladescan (schema {run.schema_version}, this one reads up to "
            f"{SCHEMA_VERSION}): pip install --upgrade bladescan"
        )
    return VerdictFile(path, run, images, cautions)


_Opened = tuple[ReviewedRun, Iterator[ReviewedImage]]


def _check_complete(summary: Any, cautions: list[str]) -> None:
    """Say that what was not scanned has no card."""
    if not isinstance(summary, dict):
        cautions.append("The file of verdicts ends early: what it does not list was not looked at.")
    elif summary.get("complete") is not True:
        why = f" ({summary['reason']})" if summary.get("reason") else ""
        cautions.append(f"The scan did not end{why}: what it does not list was not looked at.")


def _json_lines(path: Path, cautions: list[str]) -> _Opened:
    lines = _lines(path)
    first = next(lines, None)
    if first is None or first[1].get("type") != "run":
        raise DataError(f"{path}: no verdicts: the first line of JSON Lines should be that of the run")
    run: ReviewedRun = _converted(first[1], ReviewedRun, f"{path}: line 1")
    return run, _listed_images(path, lines, cautions)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _object(line, f"{path}: line {number}")


def _listed_images(
    path: Path, lines: Iterable[tuple[int, dict[str, Any]]], cautions: list[str]
) -> Iterator[ReviewedImage]:
    summary = None
    for number, value in lines:
        if value.get("type") == "image":
            yield _image(value, f"{path}: line {number}")
        elif value.get("type") == "summary":
            summary = value
    _check_complete(summary, cautions)


def _json(path: Path, cautions: list[str]) -> _Opened:
    document = _object(path.read_bytes(), str(path))
    if not isinstance(document.get("images"), list):
        raise DataError(f"{path}: no verdicts: the document has no list of images")
    run: ReviewedRun = _converted(document.get("run", {}), ReviewedRun, f"{path}: run")
    _check_complete(document.get("summary"), cautions)
    images = (_image(value, f"{path}: image {i}") for i, value in enumerate(document["images"]))
    return run, images


def _object(text: bytes, where: str) -> dict[str, Any]:
    # Not msgspec: it refuses the lone surrogates that stand for the bytes of a name that is not UTF-8.
    import json

    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{where}: not JSON, or cut off: {exc}") from exc
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object")
    return value


def _image(value: Any, where: str) -> ReviewedImage:
    image: ReviewedImage = _converted(_named(value, where), ReviewedImage, where)
    return image


def _named(value: Any, where: str) -> Any:
    """Put the exact name in place of one that is escaped."""
    name = value.get("path_bytes") if isinstance(value, dict) else None
    if isinstance(name, str):
        try:
            name = base64.b64decode(name, validate=True)
        except ValueError as exc:
            raise DataError(f"{where}: path_bytes is not base64") from exc
    return value | {"path": os.fsdecode(name)} if isinstance(name, bytes) else value


def _converted(value: Any, kind: Any, where: str, *, strict: bool = True) -> Any:
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as exc:
        raise DataError(f"{where}: no verdict as bladescan writes it: {exc}") from exc


def _csv(path: Path, cautions: list[str]) -> _Opened:
    return ReviewedRun(), _grouped(path, _csv_rows(path))


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            missing = {"path", "verdict", "face", "face_verdict"} - set(reader.fieldnames or ())
            if missing:
                raise DataError(f"{path}: no verdicts: it has no column {sorted(missing)[0]!r}")
            for row in reader:
                if None in row or None in row.values():
                    where = f"{path}: line {reader.line_num}"
                    raise DataError(f"{where}: not as many cells as columns, or cut off")
                # What stands in an empty cell is None in every other format.
                yield {name: value for name, value in row.items() if value}
        except (csv.Error, UnicodeDecodeError) as exc:
            raise DataError(f"{path}: line {reader.line_num + 1}: {exc}") from exc


def _parquet(path: Path, cautions: list[str]) -> _Opened:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise MissingDependencyError("parquet", "pyarrow", "pip install 'bladescan[parquet]'") from exc
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, ValueError) as exc:
        raise DataError(f"{path}: not a Parquet file, or cut off: {exc}") from exc
    said = (file.schema_arrow.metadata or {}).get(b"bladescan.run")
    ended = (file.metadata.metadata or {}).get(b"bladescan.summary")
    _check_complete(ended and _object(ended, f"{path}: summary"), cautions)
    if said is None:
        raise DataError(f"{path}: no verdicts: its metadata has no bladescan.run")
    run: ReviewedRun = _converted(_object(said, f"{path}: run"), ReviewedRun, f"{path}: run")
    batches = (batch.to_pylist() for batch in file.iter_batches(batch_size=4096))
    return run, _grouped(path, itertools.chain.from_iterable(batches))


def _grouped(path: Path, rows: Iterable[dict[str, Any]]) -> Iterator[ReviewedImage]:
    """Join the rows of the faces of one image, which follow each other."""
    held: list[dict[str, Any]] = []
    for number, row in enumerate(rows, 1):
        if held and (row.get("path") != held[0].get("path") or not _is_next(row.get("face"), len(held))):
            yield _joined(held, f"{path}: row {number - 1}")
            held = []
        held.append(row)
    if held:
        yield _joined(held, f"{path}: the last row")


def _is_next(face: Any, place: int) -> bool:
    return str(face) == str(place)  # of a source listed twice the faces begin again


def _joined(rows: list[dict[str, Any]], where: str) -> ReviewedImage:
    faces = [_face(row, where) for row in rows if row.get("face") is not None]
    value = _named(rows[0] | {"faces": faces}, where)
    image: ReviewedImage = _converted(value, ReviewedImage, where, strict=False)
    return image


def _face(row: dict[str, Any], where: str) -> dict[str, Any]:
    told = row | {"verdict": row.get("face_verdict")}
    if isinstance(row.get("explanation"), str):
        told["explanation"] = _object(row["explanation"].encode(), f"{where}: explanation")
    return told | {"components": _components(row)}


def _components(row: dict[str, Any]) -> dict[str, Any]:
    """Collect the columns of combined scores: ``NAME_score`` beside ``NAME_p_value``."""
    names = [key.removesuffix("_p_value") for key in row if key.endswith("_p_value")]
    return {
        name: {"score": row[f"{name}_score"], "p_value": row[f"{name}_p_value"]}
        for name in names
        if f"{name}_score" in row and row[f"{name}_p_value"] is not None
    }


_READERS: dict[str, Callable[[Path, list[str]], _Opened]] = {
    "csv": _csv,
    "json": _json,
    "jsonl": _json_lines,
    "parquet": _parquet,
}
