r"""The decisions that reviewers exported, read back: JSON Lines or CSV, several files as one.

A file is believed in nothing: what is missing, of another type or cut off is an error that names the line.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bladescan.base.errors import DataError, UsageError
from bladescan.ledger.decisions import DECISIONS, FaceDecision

SCHEMA_VERSION = 1
SUFFIXES = (".jsonl", ".csv")
_SHA256 = re.compile("[0-9a-f]{64}")
_HASH = re.compile("[0-9a-f]{16}")
_ODD = re.compile(rb"\\x([89a-f][0-9a-f])")
_NEEDED = ("sha256", "face", "path", "decision", "decided_at")


@dataclass(frozen=True, slots=True)
class Decisions:
    """What is decided, each face once.

    Attributes:
        faces: the decision that counts, by `FaceDecision.key`.
        paths: of every file that had the face, by the same key, in the order of the files.
        n_lines: read in all.
        n_replaced: of them, those that a later decision on the same face took the place of.
    """

    faces: dict[tuple[str, int], FaceDecision]
    paths: dict[tuple[str, int], list[str]]
    n_lines: int
    n_replaced: int


def read_decisions(files: Iterable[Path]) -> Decisions:
    """Read decisions, of which the latest on a face counts.

    One by somebody who looked at the very face counts before one on a near-duplicate of it, however late.

    Raises:
        UsageError: a file is not there, or its name ends in neither .jsonl nor .csv.
        DataError: it holds no decisions, or is damaged.
    """
    found = Decisions({}, {}, 0, 0)
    n_lines = n_replaced = 0
    for file in files:
        n_before = n_lines
        for decision in _read(file):
            n_lines += 1
            n_replaced += _add(found, decision)
        if n_lines == n_before:
            raise DataError(f"{file}: no decision in it")
    return Decisions(found.faces, found.paths, n_lines, n_replaced)


def _add(found: Decisions, decision: FaceDecision) -> bool:
    """Add one; tell whether it replaced another decision, or was replaced."""
    paths = found.paths.setdefault(decision.key, [])
    is_another = decision.path not in paths
    if is_another:
        paths.append(decision.path)
    before = found.faces.get(decision.key)
    if before is None or decision.rank >= before.rank:
        found.faces[decision.key] = decision
    # The same decision on equal files at two places is one, and no change of mind.
    return before is not None and not (is_another and before.decision == decision.decision)


def _read(file: Path) -> Iterator[FaceDecision]:
    if file.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{file}: expected decisions in a file that ends in {' or '.join(SUFFIXES)}")
    if not file.is_file():
        raise UsageError(f"{file}: no such file")
    try:
        yield from _csv(file) if file.suffix.lower() == ".csv" else _json_lines(file)
    except OSError as exc:
        raise DataError(f"{file}: cannot be read: {exc.strerror or exc}") from exc


def _json_lines(file: Path) -> Iterator[FaceDecision]:
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{file}: line {number}"
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as exc:
                raise DataError(f"{where}: not JSON, or cut off: {exc}") from exc
            if not isinstance(value, dict):
                raise DataError(f"{where}: expected a JSON object")
            if value.get("type") in ("run", "image"):
                raise DataError(f"{where}: verdicts and no decisions: give them as --verdicts {file}")
            yield _decision(value, where)


def _csv(file: Path) -> Iterator[FaceDecision]:
    with open(file, newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        try:
            missing = {"schema", *_NEEDED} - set(reader.fieldnames or ())
            if missing and "face_verdict" in (reader.fieldnames or ()):
                raise DataError(f"{file}: verdicts and no decisions: give them as --verdicts {file}")
            if missing and reader.fieldnames:
                raise DataError(f"{file}: no decisions: it has no column {sorted(missing)[0]!r}")
            for row in reader:
                where = f"{file}: line {reader.line_num}"
                if None in row or None in row.values():
                    raise DataError(f"{where}: not as many cells as columns, or cut off")
                yield _decision(_typed(row, where), where)
        except (csv.Error, UnicodeDecodeError) as exc:
            raise DataError(f"{file}: line {reader.line_num + 1}: {exc}") from exc


def _typed(row: dict[str, Any], where: str) -> dict[str, Any]:
    """Give the cells of a line the types that they have in JSON."""
    value: dict[str, Any] = {name: cell or None for name, cell in row.items()}
    kinds: dict[str, Callable[[str], Any]] = {
        "schema": int,
        "face": int,
        "n_faces": int,
        "score": float,
        "looked_at": lambda cell: {"true": True, "false": False}[cell],
        "place": lambda cell: [float(part) for part in cell.split(" ")],
    }
    for name, kind in kinds.items():
        try:
            value[name] = None if value.get(name) is None else kind(value[name])
        except (ValueError, KeyError) as exc:
            raise DataError(f"{where}: {name} {value[name]!r} is none") from exc
    return value | {"sha256": value["sha256"] or "", "path": _path_on_disk(row["path"])}


def _path_on_disk(cell: str) -> str:
    r"""Find the path that a cell stands for: bytes that are no UTF-8 are written as ``\xNN`` in it."""
    exact = os.fsdecode(_ODD.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(cell)))
    return exact if exact != cell and os.path.lexists(exact) else cell


def _decision(value: dict[str, Any], where: str) -> FaceDecision:
    _check_schema(value.get("schema"), where)
    for name in _NEEDED:
        if name not in value:
            raise DataError(f"{where}: no decision as a review writes it: it has no {name!r}")
    word = value["decision"]
    if word not in DECISIONS:
        raise DataError(f"{where}: unknown decision {word!r}. Known: {', '.join(DECISIONS)}.")
    fields = {
        "sha256": _checked(value, "sha256", _is_sha256, where),
        "face": _checked(value, "face", lambda face: face is None or _is_count(face), where),
        "path": _checked(value, "path", lambda path: isinstance(path, str) and "\0" not in path, where),
        "looked_at": _checked({"looked_at": True} | value, "looked_at", _is_bool, where),
        "verdict": _checked({"verdict": ""} | value, "verdict", lambda word: isinstance(word, str), where),
        "score": _checked(value, "score", lambda score: score is None or _is_finite(score), where),
        "n_faces": _checked(value, "n_faces", lambda n: n is None or _is_count(n), where),
        "place": _tuple(_checked(value, "place", _is_place, where)),
        "picture_hash": _hash(_checked(value, "picture_hash", _is_hash, where)),
        "crop_hash": _hash(_checked(value, "crop_hash", _is_hash, where)),
    }
    return FaceDecision(decision=word, decided_at=_time(value["decided_at"], where), **fields)


def _check_schema(schema: Any, where: str) -> None:
    if not _is_count(schema) or schema == 0:
        raise DataError(f"{where}: no decision as a review writes it: its schema is {schema!r}")
    if schema > SCHEMA_VERSION:
        raise DataError(
            f"{where}: exported by a newer bladescan (schema {schema}, this one reads up to "
            f"{SCHEMA_VERSION}): pip install --upgrade bladescan"
        )


def _checked(value: dict[str, Any], name: str, is_right: Callable[[Any], bool], where: str) -> Any:
    if not is_right(value.get(name)):
        raise DataError(f"{where}: no decision as a review writes it: {name} is {value.get(name)!r}")
    return value.get(name)


def _is_sha256(text: Any) -> bool:
    return isinstance(text, str) and (text == "" or _SHA256.fullmatch(text) is not None)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_place(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 4 and all(map(_is_finite, value)))


def _is_hash(value: Any) -> bool:
    return value is None or (isinstance(value, str) and _HASH.fullmatch(value) is not None)


def _tuple(place: list[float] | None) -> Any:
    return None if place is None else tuple(place)


def _hash(digits: str | None) -> int | None:
    return None if digits is None else int(digits, 16)


def _time(text: Any, where: str) -> float:
    try:
        told = datetime.fromisoformat(text)
        if told.tzinfo is None:
            raise ValueError("it has no time zone")
        return told.timestamp()
    except (TypeError, ValueError, OverflowError) as exc:
        raise DataError(f"{where}: decided_at {text!r} is no time: {exc}") from exc
