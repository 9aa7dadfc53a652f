"""Where verdicts go: CSV, JSON, JSON Lines, Parquet or a table; to a file or to standard output.

Two halves that know nothing of each other. An *encoder* turns the run, each record and the summary into
bytes; a *target* takes bytes and makes them visible. A file appears under its name only when it is
complete; until then the old one stays. Encoders hold no record longer than a row group, so that bytes
already handed over can be made durable piece by piece.

Numbers are rounded once, in `_face_row`, so that every format says the same: six significant digits for
a log-likelihood, six decimals for a share, one for a pixel. What is not finite is left out.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

from bladescan.base import clock
from bladescan.base.errors import MissingDependencyError, UnknownNameError, UsageError
from bladescan.base.output_files import Output, OutputStream, is_special, open_output
from bladescan.base.records import FaceVerdict, ImageRecord, Verdict
from bladescan.base.terminal import printable

SCHEMA_VERSION = 1
SUFFIXES = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
STDOUT_NAMES = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
IMAGE_COLUMNS = ("path", "verdict", "reason", "detail", "format", "width", "height", "n_frames")
FACE_COLUMNS = (
    *("face", "frame", "x0", "y0", "x1", "y1", "detection_score"),
    *("log_likelihood", "p_value", "p_ai_generated", "face_verdict"),
)
COLUMNS = IMAGE_COLUMNS + FACE_COLUMNS
ROW_GROUP = 8192
"""Rows that the Parquet encoder holds back."""
# The last four are the full-width forms, which spreadsheets in some locales take for the same.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What made the verdicts.

    Attributes:
        version: of bladescan.
        detector, detector_sha256: its name and the digest of its file.
        backend, device, face_finder, head: what ran and what decided.
        false_alarm: the rate asked for, None under ``fdr``.
        fdr: the false-discovery rate asked for, else None.
        threshold: the score that decides, None under ``fdr``.
        started: ISO 8601, UTC.
    """

    version: str
    detector: str
    detector_sha256: str
    backend: str
    device: str
    face_finder: str
    head: str
    false_alarm: float | None
    fdr: float | None
    threshold: float | None
    started: str
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Counts of a run.

    Attributes:
        verdicts, reasons: images by verdict, unreadable ones by reason.
        seconds: wall clock.
        complete: False if the scan was interrupted.
        n_unchanged: sources that the ledger knew, whether they have rows or not.
        bytes_read: of images, by this run.
        images_per_second, faces_per_second: by the wall clock.
        stage_seconds: by stage, added up over the processes, which work at the same time.
    """

    n_images: int
    n_faces: int
    verdicts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    exit_code: int = 0
    complete: bool = True
    n_unchanged: int = 0
    bytes_read: int = 0
    images_per_second: float = 0.0
    faces_per_second: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)

    def as_written(self) -> Self:
        """The same without what differs from one equal run to the next, if ``SOURCE_DATE_EPOCH`` is set."""
        if not clock.is_stopped():
            return self
        stages = dict.fromkeys(self.stage_seconds, 0.0)
        return replace(
            self,
            seconds=0.0,
            bytes_read=0,
            images_per_second=0.0,
            faces_per_second=0.0,
            stage_seconds=stages,
        )


class Encoder(Protocol):
    """Turns records into the bytes of one format."""

    def begin(self) -> bytes:
        """What stands before the first record."""

    def record(self, record: ImageRecord) -> bytes:
        """One record; may be empty where records are held back."""

    def end(self, summary: RunSummary) -> bytes:
        """What stands after the last record."""


class Sink:
    """An open output. Leaving its context without `finish` or `keep_partial` aborts it."""

    def __init__(self, encoder: Encoder, target: Output) -> None:
        self._encoder, self._target = encoder, target
        self._open = True

    def write(self, record: ImageRecord) -> None:
        """Write one record.

        Raises:
            OutputError: it could not be written.
            BrokenPipeError: the reader has gone, which is the caller's to judge.
        """
        self._target.write(self._encoder.record(record))

    def finish(self, summary: RunSummary) -> None:
        """Write the summary and make the output durable and visible. Raises as `write` does."""
        self._target.write(self._encoder.end(summary.as_written()))
        self._target.commit()
        self._open = False

    def keep_partial(self, summary: RunSummary) -> str | None:
        """Close an interrupted output; a file ``v.csv`` stays as it was and ``v.partial.csv`` is made.

        Returns:
            The name of the partial file, None where the rows had gone straight to their reader.
        """
        self._target.write(self._encoder.end(summary.as_written()))
        kept = self._target.keep_partial()
        self._open = False
        return kept

    def abort(self) -> None:
        """Throw away what was written; an old file stays as it was. Aborting twice is fine."""
        if self._open:
            self._open = False
            self._target.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def open_sink(path: str | None, format: str, run: RunInfo, *, stream: BinaryIO) -> Sink:
    """Open the output and write its head, so that what cannot work fails before the scan.

    Args:
        path: the file to write; None or ``-`` for ``stream``.
        format: a key of `ENCODERS`, or ``auto``: by the file's suffix, else a table on a terminal, else CSV.
        run: what will make the verdicts.
        stream: standard output.

    Raises:
        UsageError: unknown format or suffix.
        MissingDependencyError: Parquet without pyarrow.
        OutputError: the output cannot be written.
        BrokenPipeError: its reader has gone.
    """
    to_stream = path is None or path in STDOUT_NAMES
    terminal = to_stream and stream.isatty()
    encoder = ENCODERS[choose_format(None if to_stream else path, format, terminal)](run, terminal)
    target: Output = (
        OutputStream(stream, "standard output") if path is None or to_stream else open_output(path)
    )
    try:
        target.write(encoder.begin())
    except BaseException:
        target.discard()
        raise
    return Sink(encoder, target)


def choose_format(path: str | None, format: str, terminal: bool) -> str:
    """The key of `ENCODERS` to use; see `open_sink`."""
    if format != "auto":
        if format not in ENCODERS:
            raise UnknownNameError("format", format, [*ENCODERS, "auto"])
        if format == "parquet" and terminal:
            raise UsageError("parquet is not for a terminal: give -o FILE.parquet")
        return format
    if path is None:
        return "table" if terminal else "csv"
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if is_special(path):  # a pipe or a device has no suffix to go by
        return "csv"
    raise UsageError(f"{path}: no format has the suffix {suffix!r}: use {', '.join(SUFFIXES)}, or --format")


# Rows


def _finite(value: float | None, rounded: Callable[[float], float]) -> float | None:
    return None if value is None or not math.isfinite(value) else rounded(value) + 0.0


def _share(value: float | None) -> float | None:
    return _finite(value, lambda number: round(number, 6))


def _pixels(value: float) -> float | None:
    return _finite(value, lambda number: round(number, 1))


def _image_row(record: ImageRecord) -> dict[str, Any]:
    return {
        "path": record.source,
        "verdict": record.verdict.value,
        "reason": None if record.reason is None else record.reason.value,
        "detail": record.detail,
        "format": record.format,
        "width": record.width,
        "height": record.height,
        "n_frames": record.n_frames,
    }


def _face_row(index: int, face: FaceVerdict) -> dict[str, Any]:
    box = face.box
    corners = (None,) * 4 if box is None else tuple(map(_pixels, (box.x0, box.y0, box.x1, box.y1)))
    return {
        "face": index,
        "frame": face.frame,
        **dict(zip(("x0", "y0", "x1", "y1"), corners, strict=True)),
        "detection_score": None if box is None else _share(box.score),
        "log_likelihood": _finite(face.log_likelihood, lambda number: float(f"{number:.6g}")),
        "p_value": _share(face.p_value),
        "p_ai_generated": _share(face.p_ai_generated),
        "face_verdict": face.verdict.value,
    }


def _rows(record: ImageRecord) -> Iterator[dict[str, Any]]:
    """One row of `COLUMNS` for each face, or one without a face."""
    image = _image_row(record)
    for index, face in enumerate(record.faces):
        yield image | _face_row(index, face)
    if not record.faces:
        yield image | dict.fromkeys(FACE_COLUMNS)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


# Encoders


class _Csv:
    """RFC 4180 quoting, UTF-8, lines that end with LF: a CR would stick to the last field in a pipe."""

    def __init__(self, run: RunInfo, terminal: bool) -> None:
        pass  # a CSV file has no place for the run

    def begin(self) -> bytes:
        return _csv_line(COLUMNS)

    def record(self, record: ImageRecord) -> bytes:
        return b"".join(_csv_line([_cell(*item) for item in row.items()]) for row in _rows(record))

    def end(self, summary: RunSummary) -> bytes:
        return b""


def _csv_line(cells: Any) -> bytes:
    text = io.StringIO(newline="")
    # CRLF as the terminator makes every Python quote a lone CR as well as a lone LF.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return (text.getvalue()[:-2] + "\n").encode("utf-8", "surrogateescape")


def _cell(column: str, value: str | int | float | None) -> str | int | float | None:
    """Make text that a spreadsheet would run harmless; a path stays a name of the same file."""
    if not isinstance(value, str) or not value.startswith(FORMULA_STARTS):
        return value
    return f"./{value}" if column == "path" else f"'{value}"


def _json(value: dict[str, Any]) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8: lone surrogates, escaped
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _json_image(record: ImageRecord) -> dict[str, Any]:
    image = _image_row(record)
    if not _is_utf8(record.source):
        image["path_bytes"] = base64.b64encode(os.fsencode(record.source)).decode()
    faces = [_face_row(index, face) for index, face in enumerate(record.faces)]
    for face in faces:  # nested, it needs no prefix to tell it from the image's
        face["verdict"] = face.pop("face_verdict")
    return image | {"faces": faces}


def _run_fields(run: RunInfo) -> dict[str, Any]:
    return {"schema_version": run.schema_version, **asdict(run)} | {
        "threshold": _finite(run.threshold, float)
    }


class _JsonLines:
    def __init__(self, run: RunInfo, terminal: bool) -> None:
        self._run = run

    def begin(self) -> bytes:
        return _json({"type": "run", **_run_fields(self._run)}) + b"\n"

    def record(self, record: ImageRecord) -> bytes:
        return _json({"type": "image", **_json_image(record)}) + b"\n"

    def end(self, summary: RunSummary) -> bytes:
        return _json({"type": "summary", **asdict(summary)}) + b"\n"


class _Json:
    """One document, written as it grows: cut off, it does not parse."""

    def __init__(self, run: RunInfo, terminal: bool) -> None:
        self._run = run
        self._before = b"\n"

    def begin(self) -> bytes:
        return b'{"run":' + _json(_run_fields(self._run)) + b',\n"images":['

    def record(self, record: ImageRecord) -> bytes:
        before, self._before = self._before, b",\n"
        return before + _json(_json_image(record))

    def end(self, summary: RunSummary) -> bytes:
        return b'\n],\n"summary":' + _json(asdict(summary)) + b"}\n"


class _Table:
    """A line for each image, for people: its most suspicious face decides what is shown."""

    _COLOURS = {Verdict.AI_GENERATED: "bold red", Verdict.UNREADABLE: "yellow", Verdict.PHOTOGRAPHIC: "green"}

    def __init__(self, run: RunInfo, terminal: bool) -> None:
        self._colour = terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"

    def begin(self) -> bytes:
        return b"verdict       log-likelihood  p-value   P(AI)    path\n"

    def record(self, record: ImageRecord) -> bytes:
        row = min(_rows(record), key=lambda row: row["p_value"] or 0.0)
        shown = [row["log_likelihood"], row["p_value"], row["p_ai_generated"]]
        score, p, ai = ("-" if value is None else f"{value:g}" for value in shown)
        line = f"{self._painted(record.verdict)}  {score:>14}  {p:<8}  {ai:<7}  {printable(record.source)}"
        if record.reason is not None:
            detail = f": {record.detail}" if record.detail else ""
            line += printable(f"  ({record.reason.value}{detail})")
        return line.encode() + b"\n"

    def end(self, summary: RunSummary) -> bytes:
        return b""

    def _painted(self, verdict: Verdict) -> str:
        text = f"{verdict.value:<12}"
        if not self._colour or verdict not in self._COLOURS:
            return text
        from rich.style import Style

        return Style.parse(self._COLOURS[verdict]).render(text)


class _Parquet:
    """The rows of the CSV with types, in row groups; run and summary in the file's metadata."""

    def __init__(self, run: RunInfo, terminal: bool) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as exc:
            raise MissingDependencyError("parquet", "pyarrow", "pip install 'bladescan[parquet]'") from exc
        types = {
            **dict.fromkeys(COLUMNS, pyarrow.float64()),
            **dict.fromkeys(("width", "height", "n_frames", "face", "frame"), pyarrow.int32()),
            **dict.fromkeys(IMAGE_COLUMNS[:5] + ("face_verdict",), pyarrow.string()),
            "path_bytes": pyarrow.binary(),
        }
        self._table = pyarrow.Table
        self._schema = pyarrow.schema(types, metadata={"bladescan.run": _json(_run_fields(run))})
        self._buffer = io.BytesIO()
        self._file = _Counting(self._buffer)
        self._writer = pyarrow.parquet.ParquetWriter(self._file, self._schema)
        self._held: list[dict[str, Any]] = []

    def begin(self) -> bytes:
        return self._drained()

    def record(self, record: ImageRecord) -> bytes:
        names: dict[str, Any] = {"path_bytes": None}
        if not _is_utf8(record.source):
            names = {"path": _escaped(record.source), "path_bytes": os.fsencode(record.source)}
        for row in _rows(record):
            detail = None if record.detail is None else _escaped(record.detail)
            self._held.append(row | {"detail": detail} | names)
        if len(self._held) >= ROW_GROUP:
            self._write_group()
        return self._drained()

    def end(self, summary: RunSummary) -> bytes:
        if self._held:
            self._write_group()
        self._writer.add_key_value_metadata({"bladescan.summary": _json(asdict(summary)).decode()})
        self._writer.close()
        return self._drained()

    def _write_group(self) -> None:
        self._writer.write_table(self._table.from_pylist(self._held, schema=self._schema))
        self._held = []

    def _drained(self) -> bytes:
        data = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return data


class _Counting(io.RawIOBase):
    """A file that only grows and knows its length though its buffer is emptied now and then."""

    def __init__(self, buffer: io.BytesIO) -> None:
        self._buffer, self._length = buffer, 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._length

    def write(self, data: Any) -> int:
        self._length += len(data)
        return self._buffer.write(data)


def _escaped(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "backslashreplace")


ENCODERS: dict[str, Callable[[RunInfo, bool], Encoder]] = {
    "csv": _Csv,
    "json": _Json,
    "jsonl": _JsonLines,
    "parquet": _Parquet,
    "table": _Table,
}
