"""What several commands do with their options before the work: sources, standard input, early checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from bladescan.base.errors import OutputError, UsageError
from bladescan.base.output_files import check_output, is_special
from bladescan.base.text import printable
from bladescan.command.guard import is_closed

if TYPE_CHECKING:
    from bladescan.detectors.manifest import PictureRule, Subject, TileJoin, View
    from bladescan.images.limits import Limits
    from bladescan.sources.query import SourceQuery
    from bladescan.sources.source import Source

_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}


def source_query(
    paths: list[str] | None,
    files_from: str | None = None,
    null: bool = False,
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    hidden: bool = False,
    follow_links: bool = False,
    all_files: bool = False,
    shard: str | None = None,
    output: str | None = None,
    ledger: str | None = None,
    metrics: Path | None = None,
) -> SourceQuery:
    """Collect the sources that the options name.

    Raises:
        UsageError: none, or a shard that is none.
    """
    from bladescan.sources.query import SourceQuery, parse_shard

    if not paths and files_from is None:
        raise UsageError("nothing to scan: give files, folders, - or --files-from FILE")
    return SourceQuery(
        paths=tuple(paths or ()),
        files_from=files_from,
        null_separated=null,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        hidden=hidden,
        follow_links=follow_links,
        all_files=all_files,
        shard=None if shard is None else parse_shard(shard),
        output=output,
        ledger=ledger,
        metrics=None if metrics is None else str(metrics),
    )


def listed(paths: Sequence[str], stdin: BinaryIO | None) -> Iterator[Source]:
    """List what an option of folders, files or lists (``-``, ``@FILE``) names."""
    from bladescan.sources.listing import list_option

    return list_option(paths, stdin=stdin)


def counter(*groups: list[str] | None) -> Callable[[Callable[[], bool]], int | None]:
    """Make what counts all that some options of folders, files or lists name, for `ProgressLine`."""

    def count(is_wanted: Callable[[], bool]) -> int | None:
        from bladescan.sources.counting import count_sources
        from bladescan.sources.query import option_queries

        queries = [query for paths in groups if paths for query in option_queries(paths)]
        counts = [count_sources(query, is_wanted) for query in queries]
        return None if None in counts or not counts else sum(n for n in counts if n is not None)

    return count


def check_apart(**files: str | Path | None) -> None:
    """Raise UsageError where two options name one file, of which one would replace the other."""
    taken: dict[str, str] = {}
    for option, path in files.items():
        if path is None or path == "-" or is_special(str(path)):  # which hold nothing to lose
            continue
        other = taken.setdefault(os.path.realpath(path), option)
        if other != option:
            raise UsageError(f"{path}: --{other} and --{option} name the same file; give each its own")


def raw_stdin() -> BinaryIO | None:
    """Open standard input as bytes; None if it is closed."""
    # Unbuffered: the thread that lists sources may still wait in a read when the process ends, and a
    # buffered reader's lock would then abort the interpreter.
    return None if is_closed(0) else cast("BinaryIO", open(0, "rb", buffering=0, closefd=False))


def calibrated_detector(detector: str | None, output: Path) -> Path:
    """Choose the detector to calibrate, of the form in which the output is to be.

    Raises:
        UsageError: a form that no detector has, or another than the detector's; a name that is none.
    """
    from bladescan.detectors.combined_file import SUFFIX as COMBINED
    from bladescan.detectors.shipped import FORMS, named_detector

    suffix = output.suffix.lower()
    if suffix not in (*FORMS, COMBINED):
        forms = " or ".join((*FORMS, COMBINED))
        raise UsageError(f"--output {output}: expected a name that ends in {forms}")
    path = named_detector(detector, (suffix,))
    if path is None:
        raise UsageError(f"--output {output}: no detector ships as {suffix}; name one of your own")
    if path.suffix.lower() != suffix:
        raise UsageError(f"--output {output}: expected a name that ends in {path.suffix}, like {path.name}")
    check_output(output, suffix)
    return path


def image_limits(max_bytes: str, max_pixels: str, max_frames: int = 8) -> Limits:
    """Read the limits of images, of which two are numbers such as ``100M``.

    Raises:
        UsageError: one of them is no such number.
    """
    from bladescan.images.limits import Limits

    return Limits(
        max_bytes=_number(max_bytes, "--max-bytes"),
        max_pixels=_number(max_pixels, "--max-pixels"),
        max_frames=max_frames,
    )


def _number(text: str, option: str) -> int:
    """Read a count with an optional suffix K, M or G (thousands)."""
    digits = text.upper().removesuffix("B")
    factor = _UNITS.get(digits[-1:], 1)
    try:
        number = int(float(digits[:-1] if digits[-1:] in _UNITS else digits) * factor)
    except (ValueError, OverflowError):
        number = 0
    if number < 1:
        raise UsageError(f"{option} {text!r}: expected a positive number such as 500K, 100M or 2G")
    return number


def check_rate(rate: float) -> float:
    """Return the rate if it is one.

    Raises:
        UsageError: it is not between 0 and 1.
    """
    if not 0.0 < rate < 1.0:
        raise UsageError(f"the false-alarm rate must lie between 0 and 1, got {rate:g}")
    return rate


def check_new_folder(path: Path, option: str = "--output") -> None:
    """Make the folder of an output, or fail now where that cannot be or would mix it with something else."""
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}; make it first")
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"{option} {path}: expected a new or empty folder")
        path.mkdir(exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{option} {path}: {exc.strerror or exc}") from exc


def named_folders(pairs: list[str], option: str) -> dict[str, list[str]]:
    """``NAME=DIR`` options as folders by printable name; a name given twice has two folders."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not (name.strip() and equals and folder):
            raise UsageError(f"{option} {pair!r}: expected NAME=DIR, for example sdxl=images/sdxl")
        found.setdefault(printable(name.strip()), []).append(folder)
    return found


def picture_rule(subject: Subject, view: View, tile: int, tiles: int, join: TileJoin) -> PictureRule:
    """Tell how whole pictures are viewed.

    Raises:
        UsageError: numbers out of range, or given for a detector of faces.
    """
    from bladescan.detectors.manifest import PICTURE_RULE, PictureRule

    try:
        rule = PictureRule(view, tile, tiles, join)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    if subject == "face" and rule != PICTURE_RULE:
        raise UsageError("--view, --tile, --tiles and --join are for --subject image")
    return rule


def stability_share(asked: bool, limit: float | None) -> float | None:
    """Tell which share of a face's views must agree; None where none is looked at.

    Raises:
        UsageError: a limit without the look.
    """
    from bladescan.scanning.stability import LIMIT

    if limit is not None and not asked:
        raise UsageError("--stability-limit needs --stability")
    return (LIMIT if limit is None else limit) if asked else None
