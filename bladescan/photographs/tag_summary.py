"""The EXIF tags found in an index, counted: for people, and for the plot of them."""

from __future__ import annotations

import bisect
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bladescan.exif.tags import EXIF_TASKS
from bladescan.photographs.index import IndexEntry
from bladescan.tasks.pretext_tasks import PAPER_TAGS, TASKS, PretextTask, TaskKind


@dataclass(frozen=True, slots=True)
class TagSummary:
    """How often one tag is there, and with which values.

    Attributes:
        task: its name.
        kind: ``ordinal`` or ``categorical``.
        n_present: photographs that have it.
        n_missing: photographs that do not.
        counts: photographs by value: of a categorical tag for every class, of an ordinal one for ranges, in
            rising order; classes and ranges without a photograph are there, with 0.
        spread: smallest value, median and largest of an ordinal tag; None where there is no value.
    """

    task: str
    kind: str
    n_present: int
    n_missing: int
    counts: Mapping[str, int]
    spread: tuple[float, float, float] | None = None


class _TagScale(NamedTuple):
    """How the values of an ordinal tag are read by people: upper ends of ranges, and how to write a value."""

    ends: tuple[float, ...]
    write: Callable[[float], str]


def _seconds(value: float) -> str:
    return f"{value:g} s" if value >= 0.3 else f"1/{1 / value:.0f} s"


_SCALES = {
    "iso_speed": _TagScale((100, 200, 400, 800, 1600, 3200, 6400), "{:g}".format),
    "aperture": _TagScale((2, 2.8, 4, 5.6, 8, 11, 16), "f/{:.3g}".format),
    "exposure_time": _TagScale(
        (1 / 2000, 1 / 1000, 1 / 500, 1 / 250, 1 / 125, 1 / 60, 1 / 30, 1 / 8), _seconds
    ),
    "focal_length": _TagScale((10, 24, 35, 50, 85, 135, 200), "{:.3g} mm".format),
}


def summarise(entries: Iterable[IndexEntry]) -> list[TagSummary]:
    """Count every EXIF tag over the photographs that are not left out, in the order of the tasks."""
    used = [entry for entry in entries if entry.reason is None]
    return [_tag_summary(TASKS[name], [entry.tags.get(name) for entry in used]) for name in EXIF_TASKS]


def _tag_summary(task: PretextTask, values: Sequence[float | str | None]) -> TagSummary:
    present = [value for value in values if value is not None]
    n_missing = len(values) - len(present)
    if task.kind is TaskKind.CATEGORICAL:
        counted = Counter(present)
        counts = {name: counted[name] for name in task.classes}
        return TagSummary(task.name, task.kind.value, len(present), n_missing, counts)
    numbers = sorted(float(value) for value in present)
    scale = _SCALES[task.name]
    # Cameras round: 1/60 s is also written 0.01667.
    places = Counter(bisect.bisect_left([end * 1.001 for end in scale.ends], x) for x in numbers)
    names = [f"to {scale.write(end)}" for end in scale.ends] + [f"above {scale.write(scale.ends[-1])}"]
    counts = {name: places[i] for i, name in enumerate(names)}
    spread = (numbers[0], statistics.median(numbers), numbers[-1]) if numbers else None
    return TagSummary(task.name, task.kind.value, len(present), n_missing, counts, spread)


def format_summary(rows: Iterable[TagSummary]) -> str:
    """Format the rows as a table for people, one line a tag."""
    lines = [("tag", "have", "missing", "values")]
    for row in rows:
        lines.append((row.task, str(row.n_present), str(row.n_missing), _values(row)))
    widths = [max(len(line[i]) for line in lines) for i in range(3)]
    return "\n".join(
        f"{line[0]:<{widths[0]}}  {line[1]:>{widths[1]}}  {line[2]:>{widths[2]}}  {line[3]}" for line in lines
    )


def _values(row: TagSummary) -> str:
    if row.spread is not None:
        low, median, high = (_SCALES[row.task].write(value) for value in row.spread)
        return f"{low} to {high}, median {median}"
    most = sorted(row.counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {n}" for name, n in most if n) or "none"


def format_totals(entries: Iterable[IndexEntry]) -> str:
    """Count faces, patches and camera models in one line for people."""
    used = [entry for entry in entries if entry.reason is None]
    kinds = Counter(entry.kind for entry in used)
    models = len({entry.camera for entry in used} - {""})
    tagged = sum(1 for entry in used if all(name in entry.tags for name in PAPER_TAGS))
    return (
        f"faces {kinds['face']}, patches of photographs without a face {kinds['patch']}, "
        f"camera models {models}, with all nine tags {tagged}"
    )
